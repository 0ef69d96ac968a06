"""Tables of a finished or stopped study: trials by arm, what failed and why, CSV.

A search gives arms unequal tries, so its table names candidates and no winner. Only rows that
are complete, finite, of full budget and no repeats enter a mean; the rest is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from study.keys import (
    AUPRC_MACRO,
    AUPRC_SV,
    AUROC_MACRO,
    AUROC_SV,
    CLASSES,
    OBJECTIVES,
    Outcome,
    metric,
)
from study.reporting.layout import number, plus_minus, table
from study.store.trials import TrialRow

ARM_PARAMETERS = ("input", "segmentation", "fusion", "late_rr", "rr")
"""What an arm is made of; all other parameters are nuisance."""

COLUMNS = {
    AUPRC_SV: "AUPRC S+V",
    AUPRC_MACRO: "AUPRC macro",
    AUROC_SV: "AUROC S+V",
    AUROC_MACRO: "AUROC macro",
    metric("auprc", "S"): "AUPRC S",
    metric("auprc", "V"): "AUPRC V",
}
"""Headings of the metrics that a table shows; AUROC S+V only where it is the objective."""

_HEADINGS = {
    "search": "Candidates by arm (unequal tries); no winner is named.\n"
    "Mean ± sd over the complete trials of an arm, cross-validated.",
    "compare": "Arms compared on the same draws, folds and seeds.\n"
    "Mean ± sd over the draws of an arm, cross-validated; seeds and folds vary within a trial.",
}


def ranked_table(
    rows: Sequence[TrialRow],
    objective: str,
    kind: str,
    *,
    chance: Iterable[float] | None = None,
    floors: Mapping[str, Mapping[str, float]] | None = None,
    markdown: bool = False,
) -> str:
    """Return the table that ends a study: arms by mean objective, spread, what was left out.

    Args:
        rows: All trials, in any order.
        objective: Metric that arms are sorted by.
        kind: `search` or `compare`, of the space.
        chance: [C] prevalence of each class: what guessing scores is shown below the arms.
        floors: Metrics, by label, of other things that an arm must beat; shown below too.
        markdown: GitHub tables instead of plain text.

    Raises:
        ValueError: If `kind` is neither, or `objective` is not among `OBJECTIVES`.
    """
    if kind not in _HEADINGS:
        raise ValueError(f"kind must be one of {', '.join(_HEADINGS)}, got {kind!r}")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
    spread = [f"{objective}_{of}_sd" for of in ("seed", "fold")] if kind == "compare" else []
    spread = [name for name in spread if any(math.isfinite(row.metric(name)) for row in rows)]
    shown = [name for name in COLUMNS if name not in (objective, AUROC_SV)]
    shorter = shorter_outcome(rows)
    header = ["arm", "complete", str(shorter), "failed", COLUMNS[objective]]
    header += [f"sd over {name.split('_')[-2]}s" for name in spread]
    header += [COLUMNS[name] for name in shown]
    lines = [
        _arm_line(arm, rows, objective, spread, shown, shorter) for arm in _arms(rows, objective)
    ]
    below = {"chance (prevalence)": chance_level(chance)} if chance is not None else {}
    for label, values in {**below, **(floors or {})}.items():
        cells = [number(values.get(name, math.nan)) for name in (objective, *spread, *shown)]
        lines.append([label, "", "", "", *cells])
    parts = [_HEADINGS[kind], table(header, lines, markdown=markdown)]
    parts += [_notes(rows, objective, shown, kind, markdown=markdown)]
    parts += [_best_of_arms(rows, objective, markdown=markdown)] if kind == "search" else []
    return "\n\n".join(part for part in parts if part)


def shorter_outcome(rows: Iterable[TrialRow]) -> Outcome:
    """Return what trials of fewer epochs than a full one are: a search screens, or it prunes."""
    screened = any(row.outcome is Outcome.SCREENED for row in rows)
    return Outcome.SCREENED if screened else Outcome.PRUNED


def failures(rows: Sequence[TrialRow]) -> str:
    """Return what failed and why, equal causes together; empty if nothing did."""
    causes: dict[str, list[TrialRow]] = {}
    failed = [row for row in rows if row.outcome is Outcome.FAILED]
    for row in sorted(failed, key=lambda row: row.number):
        causes.setdefault(_first_line(row.cause) or "no cause recorded", []).append(row)
    lines = [f"Failed: {len(failed)} of {len(rows)} trials"]
    for cause, same in causes.items():
        lines.append(f"  {cause}")
        lines += [f"    trial {row.number}, {row.arm}, after {row.epochs} epochs" for row in same]
    return "\n".join(lines) if failed else ""


def chance_level(prevalence: Iterable[float]) -> dict[str, float]:
    """Return what guessing scores: AUPRC is a class's prevalence, AUROC 0.5.

    Args:
        prevalence: [C] share of each class in the validation beats.
    """
    by_class = {name: float(share) for name, share in zip(CLASSES, prevalence, strict=True)}
    chance = {metric("auprc", name): share for name, share in by_class.items()}
    chance |= {metric("auroc", name): 0.5 for name in CLASSES}
    chance[AUPRC_SV] = (by_class["S"] + by_class["V"]) / 2
    chance[AUPRC_MACRO] = sum(by_class.values()) / len(CLASSES)
    return chance | {AUROC_SV: 0.5, AUROC_MACRO: 0.5}


def _arms(rows: Sequence[TrialRow], objective: str) -> list[str]:
    """Return all arms, best mean objective first, those without a comparable trial last."""

    def order(arm: str) -> tuple[float, str]:
        mean = _mean(row.metric(objective) for row in _comparable(rows, objective, arm))
        return (math.inf if math.isnan(mean) else -mean, arm)

    return sorted({row.arm for row in rows}, key=order)


def _comparable(rows: Sequence[TrialRow], objective: str, arm: str) -> list[TrialRow]:
    return [row for row in rows if row.arm == arm and row.ranks(objective)]


def _arm_line(
    arm: str,
    rows: Sequence[TrialRow],
    objective: str,
    spread: list[str],
    shown: list[str],
    shorter: Outcome,
) -> list[str]:
    mine = [row for row in rows if row.arm == arm and row.duplicate_of is None]
    ranked = _comparable(rows, objective, arm)
    count = {
        outcome: sum(row.outcome is outcome for row in mine)
        for outcome in (shorter, Outcome.FAILED)
    }
    return [
        arm,
        str(len(ranked)),
        *(str(n) for n in count.values()),
        plus_minus([row.metric(objective) for row in ranked]),
        # Variances average, not their roots.
        *(number(math.sqrt(_mean(row.metric(name) ** 2 for row in ranked))) for name in spread),
        *(number(_mean(row.metric(name) for row in ranked)) for name in shown),
    ]


def _notes(
    rows: Sequence[TrialRow], objective: str, shown: list[str], kind: str, *, markdown: bool
) -> str:
    """Say what is not in the means, and why."""
    repeats = [row for row in rows if row.duplicate_of is not None]
    first = [row for row in rows if row.duplicate_of is None]
    out = [row for row in first if row.outcome is Outcome.COMPLETE and not row.ranks(objective)]
    undefined = [row for row in out if not math.isfinite(row.metric(objective))]
    left = {
        f"complete without a finite {objective}": undefined,
        "below the full number of epochs": [row for row in out if row not in undefined],
        "stopped and still owed": [row for row in first if row.outcome is Outcome.STOPPED],
        "repeats of a configuration": repeats,
    }
    notes = [f"not counted, {why}: {_trials(some)}" for why, some in left.items() if some]
    ranked = [row for row in first if row.ranks(objective)]
    for name in shown:
        missing = [row for row in ranked if not math.isfinite(row.metric(name))]
        if missing:
            notes.append(f"{name} is undefined, and left out of its mean, in {_trials(missing)}")
    tries = {sum(row.arm == arm for row in ranked) for arm in {row.arm for row in rows}}
    if kind == "compare" and len(tries) > 1:
        notes.append("arms have unequal numbers of complete trials: their means are not paired")
    return "\n".join(f"{'- ' if markdown else '  '}{note}" for note in notes)


def _best_of_arms(rows: Sequence[TrialRow], objective: str, *, markdown: bool) -> str:
    """Return the best configuration of each arm by the parameters that vary beside the arm."""
    best = []
    for arm in _arms(rows, objective):
        ranked = _comparable(rows, objective, arm)
        if ranked:
            best.append(max(ranked, key=lambda row: (row.metric(objective), -row.number)))
    if not best:
        return ""
    names = dict.fromkeys(name for row in rows for name in row.params)
    varied = [
        name
        for name in names
        if name not in ARM_PARAMETERS and len({str(row.params.get(name)) for row in rows}) > 1
    ]
    lines = [
        [row.arm, str(row.number), number(row.metric(objective))]
        + [_value(row.params.get(name)) for name in varied]
        for row in best
    ]
    header = ["arm", "trial", COLUMNS[objective], *varied]
    title = "Best configuration of each arm (the best of several tries is optimistic)."
    return f"{title}\n\n{table(header, lines, markdown=markdown)}"


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def _trials(rows: Sequence[TrialRow]) -> str:
    numbers = ", ".join(str(row.number) for row in sorted(rows, key=lambda row: row.number))
    return f"trial{'s' if len(rows) > 1 else ''} {numbers}"


def _value(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")
