"""What was classified and how it was decided: the dataset table and the protocol table."""

from __future__ import annotations

from collections.abc import Iterator

from study.keys import CLASSES, MIN_BEATS_OF_RECORD, MIN_CLASS_BEATS, Outcome
from study.reporting.page.blocks import Block, Section, Table, count, missing, text
from study.reporting.page.results import StudyResults
from study.reporting.page.words import objective_name, plural
from study.reporting.tables import shorter_outcome
from study.statistics.predictions import Beats


def dataset(results: StudyResults) -> Section:
    """Return the section."""
    return Section(anchor="data", title="Data", blocks=list(_dataset(results)))


def _dataset(results: StudyResults) -> Iterator[Block]:
    if results.beats is None:
        yield missing("No dataset table", results.why("beats", "the study has left no beats"))
    else:
        yield _records(results.beats)
    if results.dropped:
        yield Table(
            name="exclusions",
            title="Beats left out",
            shows="Annotated beats that no arm sees, by the first reason that holds.",
            reading=(
                "All arms and segmentations share one list of beats: what any of them cannot use "
                "none of them gets. Marks that are no beats take no part in RR intervals."
            ),
            header=["reason", "beats"],
            rows=[[text(reason), count(n)] for reason, n in results.dropped.items()],
        )
    else:
        yield missing("No exclusions by reason", results.why("dropped", "not read"))


def _records(beats: Beats) -> Table:
    rows = []
    for name, patient, fold, counts in zip(
        beats.record_names,
        beats.patient_of_record,
        beats.fold_of_record,
        beats.counts.tolist(),
        strict=True,
    ):
        cells = [count(n) for n in (sum(counts), *counts)]
        rows.append([text(name), text(patient), text(fold if fold >= 0 else None), *cells])
    totals = beats.counts.sum(axis=0).tolist()
    patients = len(set(beats.patient_of_record))
    rows.append(
        [text("all"), text(f"{patients} patients"), text(f"{beats.n_folds} folds")]
        + [count(n) for n in (sum(totals), *totals)]
    )
    return Table(
        name="dataset",
        title="Records, patients and beats",
        shows="Beats by class of every record that selection saw, and the fold it validates in.",
        reading=(
            f"A fold counts for a class from {MIN_CLASS_BEATS} of its beats on, a record for a "
            f"patient mean from {MIN_BEATS_OF_RECORD}."
        ),
        header=["record", "patient", "fold", "beats", *CLASSES],
        rows=rows,
        text_columns=(1,),
    )


def protocol(results: StudyResults) -> Section:
    """Return the section."""
    plan, trials = results.plan, len(results.rows)
    # One that was screened and then trained in full is one try.
    tried: dict[str, set[frozenset[object]]] = {}
    for row in results.rows:
        if row.duplicate_of is None:
            tried.setdefault(row.arm, set()).add(frozenset((row.draw, *row.params.items())))
    shorter = shorter_outcome(results.rows)
    budgets = [len(points) for points in tried.values()]
    tries = f"{min(budgets)} to {max(budgets)}" if budgets else "none yet"
    facts = {
        "kind": "search: proposes candidates, claims nothing"
        if results.searches
        else "comparison: every arm gets the same draws, folds and seeds; nothing is pruned",
        "split": "inter-patient, AAMI N S V F; DS1 and DS2 of de Chazal, O'Dwyer & Reilly 2004"
        if plan.get("data_source") == "mitdb"
        else f"inter-patient, AAMI N S V F; records: {plan.get('data_source')}",
        "selection sees": "DS1 only, in folds of whole patients; DS2 is sealed",
        "folds": f"{plan.get('folds')} ({plan.get('n_folds')} folds)",
        "seeds": f"{plan.get('n_seeds')} for each fold",
        "epochs": f"{plan.get('epochs')}, scored at the last, never at the best",
        "objective": f"{objective_name(results.objective)}: average precision within each fold, "
        "averaged over folds that count, then over seeds",
        "sampler": f"{plan.get('sampler')}, scheduler {plan.get('scheduler')}",
        "tuning budget": f"{plan.get('trials')} trials planned, {trials} settled, {tries} an arm",
        f"{shorter}, failed": f"{results.count(shorter)}, {results.count(Outcome.FAILED)}",
        "arithmetic": f"{plan.get('engine', 'float32')}; evaluation in float32",
        "random streams": f"study seed {plan.get('study_seed')}; by seed, fold and purpose, never "
        "by configuration",
        "declared contrasts": _declared(results),
    }
    return Section(
        anchor="protocol",
        title="Protocol",
        blocks=[
            Table(
                name="protocol",
                title="How it was decided",
                shows="What shaped the results, as the plan of the study has it.",
                reading="The plan was written before the first trial and was not changed since.",
                header=["what", "how"],
                rows=[[text(name), text(value)] for name, value in facts.items()],
                text_columns=(1,),
            ),
            _look_ahead(results),
        ],
    )


def _declared(results: StudyResults) -> str:
    if results.comparison is None:
        return "none" if results.searches else "not computed"
    n = sum(pair.primary for pair in results.comparison.contrasts)
    return plural(n, "contrast") if n else "none"


def _look_ahead(results: StudyResults) -> Block:
    if not results.arms:
        return missing("No look-ahead table", "no arm has a configuration yet")
    return Table(
        name="look_ahead",
        title="What each arm is given",
        shows="By which ways RR can reach the output, and what must be known after the beat.",
        reading=(
            "Look-ahead delays a decision: one that needs the whole record is not for a monitor. "
            "Every window also ends .28 s after R, or later."
        ),
        header=["arm", "input", "segmentation", "fusion", "late RR", "RR", "routes", "look-ahead"],
        rows=[
            [
                text(name),
                text(facts.input),
                text(facts.segmentation),
                text(facts.fusion),
                text(facts.late_rr),
                text(facts.rr),
                text(facts.routes),
                text(facts.look_ahead),
            ]
            for name, facts in results.arms.items()
        ],
        text_columns=(1, 2, 3, 4, 5, 6, 7),
    )
