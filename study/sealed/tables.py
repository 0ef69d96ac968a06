"""The tables of a sealed test, as the console shows them and `tables.txt` keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from study.keys import AGGREGATES, CLASSES, sealed_metric
from study.reporting.ec57 import ECTOPIC, STATISTICS
from study.reporting.layout import UNDEFINED, number, table
from study.reporting.predictions import Beats
from study.sealed.scoring import RARE, ArmScores, Exclusion, Half

Float = NDArray[np.float64]

_HEADINGS = {"auprc": "AUPRC", "auroc": "AUROC"}
_OF = {"sv": "S+V"}


def score_tables(
    arms: Sequence[ArmScores],
    beats: Beats,
    left_out: Sequence[Exclusion],
    *,
    primary: str,
    floor: str,
) -> str:
    """Return every table of scores.

    Args:
        arms: All arms, the floor last.
        beats: Of DS2.
        left_out: What totals are also given without.
        primary: The plan's primary metric, such as `auprc_sv`.
        floor: Name of the floor, which has one model and no spread.
    """
    parts = [
        _beats(beats, left_out),
        _ranking(arms, beats, primary, floor),
        _ensembles(arms, primary, floor),
        *(_decisions(arms, prefix, title) for prefix, title in _DECIDED.items()),
        _without(arms, left_out),
        _ec57(arms),
        _confusions(arms),
    ]
    return "\n\n".join(part for part in parts if part)


_DECIDED = {
    "": "Decisions at the most probable class (mean over seeds)",
    "fixed_": "Decisions at thresholds fixed on DS1, each class against the others "
    "(mean over seeds)",
}


def _beats(beats: Beats, left_out: Sequence[Exclusion]) -> str:
    totals = beats.counts.sum(axis=0)
    counts = ", ".join(f"{name} {n:,}" for name, n in zip(CLASSES, totals, strict=True))
    lines = [f"DS2: {len(beats.label):,} beats of {len(beats.record_names)} records: {counts}"]
    lines += [f"  {exclusion.label}: {exclusion.why}" for exclusion in left_out]
    return "\n".join(lines)


def _ranking(arms: Sequence[ArmScores], beats: Beats, primary: str, floor: str) -> str:
    measure, _, of = primary.partition("_")
    columns = [(measure, of)]
    columns += [
        (name, of)
        for name in _HEADINGS
        for of in ("sv", "macro", *CLASSES)
        if (name, of) != columns[0]
    ]
    header = ["arm", _heading(*columns[0]), "sd seeds", *(_heading(*c) for c in columns[1:])]
    rows = []
    for arm in arms:
        means = [_mean(arm.seeds, sealed_metric(*column)) for column in columns]
        spread = arm.seeds.values[sealed_metric(*columns[0])]
        sd = UNDEFINED if arm.name == floor else number(_sd(spread))
        rows.append([arm.name, number(means[0]), sd, *map(number, means[1:])])
    chance = _chance(beats)
    cells = [number(chance[sealed_metric(*column)]) for column in columns]
    rows.append(["chance (prevalence)", cells[0], "", *cells[1:]])
    return f"Scores on DS2, mean over seeds (primary: {_heading(*columns[0])})\n\n" + table(
        header, rows
    )


def _ensembles(arms: Sequence[ArmScores], primary: str, floor: str) -> str:
    measure, _, of = primary.partition("_")
    columns = [(measure, of), ("auprc", "macro"), ("auroc", "macro")]
    columns += [("auprc", name) for name in RARE]
    columns = list(dict.fromkeys(columns))
    rows = [
        [arm.name, *(number(_mean(arm.ensemble, sealed_metric(*column))) for column in columns)]
        for arm in arms
        if arm.name != floor
    ]
    title = "Seed ensembles: mean probability of all seeds; one model more, not a mean of scores"
    return f"{title}\n\n{table(['arm', *(_heading(*c) for c in columns)], rows)}"


def _decisions(arms: Sequence[ArmScores], prefix: str, title: str) -> str:
    names = {"se": "Se", "ppv": "+P", "f1": "F1"}
    header = ["arm", *(f"{names[m]} {c}" for c in CLASSES for m in names), "F1 macro"]
    rows = []
    for arm in arms:
        cells = [
            number(_mean(arm.seeds, sealed_metric(prefix + metric, aami_class)))
            for aami_class in CLASSES
            for metric in names
        ]
        macro = _mean(arm.seeds, sealed_metric(f"{prefix}f1", "macro"))
        rows.append([arm.name, *cells, number(macro)])
    text = f"{title}\n\n{table(header, rows)}"
    if not prefix:
        return text
    sources = [f"  {arm.name}: {_thresholds(arm)}" for arm in arms]
    return "\n".join([text, "thresholds:", *sources])


def _thresholds(arm: ArmScores) -> str:
    fixed = zip(CLASSES, arm.thresholds.single, strict=True)
    return ", ".join(f"{c} {number(t)}" for c, t in fixed) + f" from {arm.thresholds.source}"


def _without(arms: Sequence[ArmScores], left_out: Sequence[Exclusion]) -> str:
    if not left_out:
        return ""
    columns = [("auprc", of) for of in ("sv", "macro", *RARE)] + [("auroc", "macro")]
    rows = []
    for arm in arms:
        rows.append([arm.name, "all", *_cells(arm.seeds.values, columns)])
        for exclusion in left_out:
            values = arm.seeds.without[exclusion.label]
            rows.append(["", exclusion.label, *_cells(values, columns)])
    header = ["arm", "records", *(_heading(*column) for column in columns)]
    return f"Without some records (mean over seeds)\n\n{table(header, rows)}"


def _cells(values: Mapping[str, Float], columns: Sequence[tuple[str, str]]) -> list[str]:
    return [number(_over_seeds(values[sealed_metric(*column)])) for column in columns]


def _ec57(arms: Sequence[ArmScores]) -> str:
    header = ["arm", "statistics"]
    header += [f"{beat_type} {name}" for beat_type in ECTOPIC for name in STATISTICS.values()]
    rows = []
    for arm in arms:
        for kind in ("gross", "average"):
            cells = [
                number(_over_seeds(arm.seeds.ec57[beat_type][kind][name]))
                for beat_type in ECTOPIC
                for name in STATISTICS
            ]
            rows.append([arm.name if kind == "gross" else "", kind, *cells])
    title = (
        "AAMI EC57 at the most probable class (mean over seeds): gross over all beats, average "
        "over records"
    )
    return f"{title}\n\n{table(header, rows)}"


def _confusions(arms: Sequence[ArmScores]) -> str:
    rows = []
    for arm in arms:
        for c, aami_class in enumerate(CLASSES):
            counts = [f"{n:,}" for n in arm.seeds.confusion[c]]
            rows.append([arm.name if c == 0 else "", aami_class, *counts])
    header = ["arm", "true", *(f"called {c}" for c in CLASSES)]
    return f"Beats by true and called class, all seeds added up\n\n{table(header, rows)}"


def _chance(beats: Beats) -> dict[str, float]:
    """Return what a random ranking scores on DS2."""
    share = np.bincount(beats.label, minlength=len(CLASSES)) / len(beats.label)
    found = {sealed_metric("auprc", c): float(s) for c, s in zip(CLASSES, share, strict=True)}
    for of, classes in AGGREGATES.items():
        found[sealed_metric("auprc", of)] = float(
            np.mean([found[sealed_metric("auprc", c)] for c in classes])
        )
    return found | {sealed_metric("auroc", of): 0.5 for of in (*CLASSES, *AGGREGATES)}


def _heading(measure: str, of: str) -> str:
    return f"{_HEADINGS[measure]} {_OF.get(of, of)}"


def _mean(half: Half, name: str) -> float:
    return _over_seeds(half.values[name])


def _over_seeds(values: Float) -> float:
    """Return the mean over seeds; undefined where it is for one of them."""
    return float(values.mean())


def _sd(values: Float) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
