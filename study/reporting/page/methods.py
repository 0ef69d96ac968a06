"""A methods paragraph for a paper, written from the plan and what was found."""

from __future__ import annotations

from collections.abc import Iterator

from study.keys import CLASSES, MIN_CLASS_BEATS, Outcome
from study.reporting.page.blocks import Note, Section
from study.reporting.page.results import StudyResults
from study.reporting.page.words import listing, objective_name, plural


def methods(results: StudyResults) -> Section:
    """Return the section."""
    return Section(
        anchor="methods",
        title="Methods paragraph",
        blocks=[
            Note("For a paper, in the words of this study's plan; check it before it is used."),
            Note(" ".join(methods_sentences(results))),
        ],
    )


def methods_sentences(results: StudyResults) -> Iterator[str]:
    """Yield the sentences of the paragraph."""
    plan = results.plan
    yield from _data(results)
    yield (
        f"Models were trained for {plan['epochs']} epochs in {plan['folds'].split(',')[0]} "
        "cross-validation over whole patients with "
        f"{plural(int(plan['n_seeds']), 'seed')} a fold, and scored at the last epoch."
    )
    pruned, failed = results.count(Outcome.PRUNED), results.count(Outcome.FAILED)
    screened = results.count(Outcome.SCREENED)
    if results.searches:
        shorter = (
            f"{screened} were screened for one epoch, with a learning rate that falls to zero in "
            "it, and the best of each arm was trained in full;"
            if screened
            else f"{pruned} were stopped early and"
        )
        yield (
            f"Configurations were proposed by {plan['sampler']} ({plan['scheduler']} scheduler); "
            f"of {plural(len(results.rows), 'trial')}, {shorter} {failed} "
            "failed. The search names candidates and supports no claim about arms."
        )
    else:
        arms = plural(len(results.arms), "arm")
        yield (
            f"{arms[:1].upper()}{arms[1:]} were trained with the same draws of the nuisance "
            "parameters, the same folds and the same seeds; "
            f"of {plural(len(results.rows), 'trial')}, {failed} failed, and none was pruned."
        )
    yield (
        f"The primary score was {objective_name(results.objective)}: average precision within "
        f"each fold's predictions, averaged over the folds with {MIN_CLASS_BEATS} or more beats "
        "of the class (Forman & Scholz 2010, doi:10.1145/1882471.1882479), then over seeds."
    )
    yield from _statistics(results)
    yield (
        "RR reliance was the loss of AUPRC when RR intervals were permuted within records in the "
        "inputs, in the cut of the window, or in both."
    )
    yield results.openings.splitlines()[0] if results.openings else ""


def _data(results: StudyResults) -> Iterator[str]:
    where = {
        "mitdb": "the MIT-BIH Arrhythmia Database (Moody & Mark 2001, doi:10.1109/51.932724)",
        "synthetic": "synthetic records, which say nothing about patients",
    }.get(str(results.plan.get("data_source")), "the study's own records")
    yield f"Beats of {where} were classified as AAMI {', '.join(CLASSES)}."
    beats = results.beats
    if beats is None:
        return
    counts = beats.counts.sum(axis=0).tolist()
    classes = listing(f"{n:,} {name}" for name, n in zip(CLASSES, counts, strict=True))
    left_out = sum(results.dropped.values())
    without = f"; {left_out:,} beats were left out" if left_out else ""
    yield (
        f"Selection saw {len(beats.label):,} beats of {len(beats.record_names)} records from "
        f"{plural(len(set(beats.patient_of_record)), 'patient')} ({classes}){without}."
    )


def _statistics(results: StudyResults) -> Iterator[str]:
    comparison = results.comparison
    if comparison is None or results.searches:
        return
    yield (
        f"Intervals (95 %) are from {comparison.resamples:,} joint, paired resamples of patients "
        "and seeds within folds, conditional on the training sets."
    )
    tested = [pair for pair in comparison.contrasts if pair.primary and pair.p == pair.p]
    if tested:
        yield (
            f"{plural(len(tested), 'contrast')} declared before the study "
            f"{'was' if len(tested) == 1 else 'were'} tested by {comparison.permutations:,} swaps "
            "of whole records between two arms, adjusted by max-T (Westfall & Young 1993)."
        )
    weak = [fact.name for fact in comparison.classes if not fact.estimable]
    if weak:
        yield (
            f"For {listing(weak)} fewer than 4 effective patients carry the class: no interval "
            "or test is given."
        )
