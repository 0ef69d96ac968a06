"""Checks of the statistics of a comparison: speed, and what they do on simulated patients.

  python benchmarks/statistics_checks.py speed
  python benchmarks/statistics_checks.py simulate --data-sets 500 --out FOLDER   # resumable
  python benchmarks/statistics_checks.py tables --out FOLDER

A simulated data set has 22 patients with given numbers of beats by class, in folds, and six arms
with three seeds each. Arms are equal, or the first is better. A beat's score for S or V is the sum
of what its patient adds (to all arms; to one arm; to one arm and seed), what fold and seed add,
and noise that arms partly share. Every data set goes through
`study.statistics.comparison.compare`. The scores of N and F are constant: they are not looked at,
and cost nothing.

Designs: `balanced` (every patient has the same beats; 5 folds), `ds1` (the published counts of
DS1's records; 5 folds), `ds1_one_fold`, and `ds2` (the published counts of DS2's records, one
fold, as a sealed test ranks them). Counts of annotations only: no signal or score of DS2.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from study.data.catalogue import DS1, DS2
from study.data.folds import make_folds
from study.keys import CLASSES, metric
from study.reporting.table import Column, Kind, Table
from study.statistics.comparison import compare
from study.statistics.estimates import LEVELS, with_means
from study.statistics.findings import QUANTITIES as FOUND
from study.statistics.findings import Comparison, classes_in, parts_of
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.resampling import WeightedScores
from study.statistics.scored import ScoredArms
from study.statistics.swapping import draw_swaps, swap_test
from study.statistics.weighted_metrics import Float
from study.wording import score_text

ARMS, SEEDS = 6, 3
OTHERS = (0, 2, 3, 4, 5)
"""Arms that are compared with arm 1."""

RESAMPLES, SWAPS = 1_000, 999
BETTER = 0.7
"""What the first arm adds to the scores of S and V where it is better."""

MEAN = {"S": 1.8, "V": 3.6}
"""How far a positive beat's score is above a normal one's, in units of the noise."""

PATIENT = {"S": 1.8, "V": 1.2}
"""Standard deviation over patients of that distance."""

NORMAL_PATIENT, ARM_PATIENT, SEED, SHARED_NOISE = 0.8, 0.4, 0.25, 0.7
"""Standard deviations over patients of the normal beats' scores, over arms of a patient, over
seeds (of a fold, and of a patient); share of the noise's variance that arms have in common."""

QUANTITIES = ("S", "V", "sv")
SPREADS = ("sd_folds", "sd_seeds")

# N, S, V, F annotations of the records (those of Q are left out), in the order of DS1 and DS2.
COUNTS_DS1 = """1860/3/0/0 1507/0/520/0 1740/4/17/2 2492/0/38/2 2537/2/0/0 1820/12/43/4 1953/0/0/0
2302/1/109/0 2166/96/16/0 1543/0/444/0 2476/0/0/0 1536/31/47/5 1635/128/198/2 2529/2/444/1
2571/3/71/11 1543/107/210/0 1586/2/992/373 2621/383/1/0 3195/3/164/1 1954/94/0/0 2045/73/473/14
2255/0/1/0"""
COUNTS_DS2 = """2239/33/1/0 2082/2/0/0 2526/0/41/0 2123/0/1/0 1789/6/0/0 1534/1/0/0 1861/1/1/0
1515/0/3/0 1743/30/826/2 2061/55/19/1 2423/22/195/10 2748/0/0/0 2641/28/220/362 2003/0/256/1
2082/7/64/1 2031/0/396/0 2274/209/0/0 1688/3/362/0 1568/1/2/0 398/1382/0/0 2230/7/831/11
2700/50/3/0"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Beats of 22 patients by class, their folds, and the metric that is tested."""

    names: tuple[str, ...]
    counts: NDArray[np.int64]
    folds: tuple[int, ...]
    objective: str

    def beats(self) -> Beats:
        """Return the beats, record by record and class by class."""
        n_records, n_classes = self.counts.shape
        cells = np.repeat(np.arange(n_records * n_classes), self.counts.ravel())
        return Beats(
            label=cells % n_classes,
            record=cells // n_classes,
            record_names=self.names,
            patient_of_record=self.names,
            folds_of_record=(self.folds,),
        )


def designs() -> dict[str, Design]:
    """Return the designs by name."""
    of_ds1, of_ds2 = counts_of(COUNTS_DS1), counts_of(COUNTS_DS2)
    even = np.tile(of_ds1.mean(axis=0).round().astype(np.int64), (len(DS1), 1))
    folds = make_folds(DS1, of_ds1).validation
    fold_of = {name: fold for fold, names in enumerate(folds) for name in names}
    both, one = metric("auprc", "sv"), (0,) * len(DS1)
    five = tuple(fold_of[name] for name in DS1)
    return {
        "balanced": Design(
            names=DS1, counts=even, folds=tuple(k % 5 for k in range(len(DS1))), objective=both
        ),
        "ds1": Design(names=DS1, counts=of_ds1, folds=five, objective=both),
        "ds1_one_fold": Design(names=DS1, counts=of_ds1, folds=one, objective=both),
        "ds2": Design(names=DS2, counts=of_ds2, folds=one, objective=metric("auprc", "V")),
    }


def simulate(design: Design, better: float, rng: np.random.Generator) -> list[ArmRuns]:
    """Return the predictions of six arms for one data set.

    Args:
        design: Beats and folds.
        better: What the first arm adds to the scores of positive beats.
        rng: Source of the data set.
    """
    beats = design.beats()
    n_patients, n_beats = len(design.names), len(beats.label)
    log_probs = np.zeros((ARMS, SEEDS, n_beats, len(CLASSES)), dtype=np.float32)
    for name in MEAN:
        positive = beats.label == CLASSES.index(name)
        other = (beats.label > 0) & ~positive

        far = MEAN[name] + rng.normal(0, PATIENT[name], n_patients)
        near = rng.normal(0, NORMAL_PATIENT, n_patients)
        base = np.where(positive, far[beats.record], near[beats.record]) + other
        base = base + rng.standard_normal(n_beats) * np.sqrt(SHARED_NOISE)
        for arm in range(ARMS):
            of_arm = rng.normal(0, ARM_PATIENT, (2, n_patients))
            of_arm[0] += better if arm == 0 else 0.0
            for seed in range(SEEDS):
                of_seed = of_arm + rng.normal(0, SEED, (2, n_patients))
                of_seed[0] += rng.normal(0, SEED, 1 + max(design.folds))[list(design.folds)]
                noise = rng.standard_normal(n_beats) * np.sqrt(1 - SHARED_NOISE)
                of_beat = np.where(positive, *of_seed[:, beats.record])
                log_probs[arm, seed, :, CLASSES.index(name)] = base + of_beat + noise
    return [
        ArmRuns(
            name=f"arm{arm}",
            log_probs=log_probs[arm],
            draw=np.zeros(SEEDS, dtype=np.int64),
            seed=np.arange(SEEDS),
            input="opt1",
            window="beat",
            fusion="film",
        )
        for arm in range(ARMS)
    ]


def data_set(design: Design, better: float, seed: int) -> dict[str, Any]:
    """Return what `compare` says of one simulated data set."""
    beats, arms = design.beats(), simulate(design, better, np.random.default_rng(seed))
    found = compare(
        beats,
        arms,
        contrasts=[(arms[k].name, arms[1].name) for k in OTHERS],
        objective=design.objective,
        resamples=RESAMPLES,
        permutations=SWAPS,
        seed=seed,
    )
    measure, quantity = parts_of(design.objective)
    swapped = swap_test(
        beats,
        [(arms[k], arms[1]) for k in OTHERS],
        classes=classes_in(quantity),
        measure=measure,
        swaps=draw_swaps(beats, SWAPS, np.random.default_rng([seed, 1])),
    )
    return {
        "seed": seed,
        "p_records": swapped.p.tolist(),
        "intervals": _intervals(beats, arms, design.objective, seed),
        **_kept(found),
    }


def _intervals(
    beats: Beats, arms: list[ArmRuns], objective: str, seed: int
) -> dict[str, dict[str, list[list[float]]]]:
    """Return value and ends of percentile, basic and BCa intervals, by kind of estimate."""
    scored = ScoredArms.of(beats, arms, objective, RESAMPLES, seed)
    one_left_out = 1.0 - np.eye(len(beats.record_names))
    left_out = WeightedScores.of(beats, arms, one_left_out, scored.measure)
    jackknife = with_means(left_out.by_class(), beats.macro)  # [A, G, Q]
    ends: dict[str, dict[str, list[list[float]]]] = {"arms": {}, "differences": {}}
    for name in QUANTITIES:
        q = FOUND.index(name)
        triples = [
            (scored.values[k, q], scored.resampled[k, :, q], jackknife[k, :, q])
            for k in range(ARMS)
        ]
        ends["arms"][name] = [_ends(*triple) for triple in triples]
        ends["differences"][name] = [
            _ends(*(a - b for a, b in zip(triples[k], triples[1], strict=True))) for k in OTHERS
        ]
    return ends


def _ends(value: float, resampled: Float, left_out: Float) -> list[float]:
    """Return a value, its resamples' mean, and the ends of three intervals.

    Basic: Davison & Hinkley 1997, Bootstrap Methods, 5.6. BCa: Efron 1987,
    doi:10.1080/01621459.1987.10478410, with the acceleration of patients left out one by one.
    """
    draws, left_out = resampled[np.isfinite(resampled)], left_out[np.isfinite(left_out)]
    if len(draws) < len(resampled) / 2 or not np.isfinite(value):
        return [float("nan")] * 8
    low, high = np.quantile(draws, LEVELS)
    below = (np.sum(draws < value) + np.sum(draws == value) / 2) / len(draws)
    bias = ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    away = left_out.mean() - left_out
    acceleration = np.sum(away**3) / (6 * np.sum(away**2) ** 1.5) if away.any() else 0.0
    shifted = bias + ndtri(LEVELS)
    bca = np.quantile(draws, ndtr(bias + shifted / (1 - acceleration * shifted)))
    ends = [low, high, 2 * value - high, 2 * value - low, *bca]
    return [float(value), float(draws.mean()), *map(float, ends)]


def _kept(found: Comparison) -> dict[str, Any]:
    arms = sorted(found.arms, key=lambda arm: arm.name)
    primary = [pair for pair in found.contrasts if pair.primary]
    choice = found.choice
    assert choice is not None
    return {
        "arms": {name: [_interval(arm.estimates[name]) for arm in arms] for name in QUANTITIES},
        "differences": {
            name: [_interval(pair.estimates[name]) for pair in primary] for name in QUANTITIES
        },
        "spreads": {name: float(np.mean([getattr(a, name) for a in arms])) for name in SPREADS},
        "p": [pair.p for pair in primary],
        "p_adjusted": [pair.p_adjusted for pair in primary],
        "detectable": [pair.detectable for pair in primary],
        "best": choice.best,
        "value": choice.value,
        "corrected": choice.corrected,
        "out_of_bag": choice.out_of_bag,
    }


def _interval(found: Any) -> list[float]:
    return [found.value, found.low, found.high]


def counts_of(text: str) -> NDArray[np.int64]:
    return np.array([[int(n) for n in record.split("/")] for record in text.split()])


SCENARIOS = {"equal": 0.0, "better": BETTER}


def run(folder: Path, n_data_sets: int, names: list[str]) -> None:
    """Simulate what is not there yet, a line of JSON a data set."""
    folder.mkdir(parents=True, exist_ok=True)
    known = designs()
    for name in names:
        for scenario, better in SCENARIOS.items():
            path = folder / f"{name}_{scenario}.jsonl"
            done = len(path.read_text().splitlines()) if path.exists() else 0
            for seed in range(done, n_data_sets):
                line = json.dumps(data_set(known[name], better, seed))
                with path.open("a") as file:
                    file.write(line + "\n")


def tables(folder: Path) -> Iterator[str]:
    """Yield the tables of what was simulated, in Markdown."""
    stored = {
        (design, scenario): [json.loads(line) for line in path.read_text().splitlines()]
        for design in designs()
        for scenario in SCENARIOS
        if (path := folder / f"{design}_{scenario}.jsonl").exists()
    }
    for title, rows in (
        *((f"95 % {kind} intervals that cover, %", _coverage(stored, kind)) for kind in KINDS),
        ("Mean of the resamples minus the score", _biases(stored)),
        ("Tests: p below .05, % of contrasts or of data sets", _tests(stored)),
        ("Score of the best arm, minus what that arm is worth", _choices(stored)),
        ("How large the simulated effects are, means over data sets", _sizes(stored)),
    ):
        columns = [Column(name, Kind.COUNT if k else Kind.NAME) for k, name in enumerate(rows[0])]
        yield Table(
            name="", title=title, shows="", reading="", columns=columns, rows=rows[1:]
        ).markdown()


Stored = dict[tuple[str, str], list[dict[str, Any]]]


KINDS = {"percentile": 2, "basic": 4, "BCa": 6}
"""Kinds of intervals, with the place of their lower end in what `_ends` returns."""

ESTIMATES = {"arms": "", "differences": ", difference"}


def _by_estimate() -> list[list[str]]:
    """Return the first row of a table with a column for each estimate."""
    columns = [f"{name}{of}" for of in ESTIMATES.values() for name in ("S", "V", "S+V")]
    return [["design", "arms", "data sets", *columns]]


def _coverage(stored: Stored, kind: str) -> list[list[str]]:
    rows = _by_estimate()
    for (design, scenario), sets in stored.items():
        row = [design, scenario, str(len(sets))]
        for estimate in ESTIMATES:
            for name in QUANTITIES:
                ends = np.array([one["intervals"][estimate][name] for one in sets])
                truth = ends[..., 0].mean(axis=0)
                if estimate == "differences" and scenario == "equal":
                    truth[:] = 0.0
                low, high = ends[..., KINDS[kind]], ends[..., KINDS[kind] + 1]
                inside = (low <= truth) & (truth <= high)
                estimable = all(np.isfinite(one[estimate][name]).all() for one in sets)
                row.append(in_percent(inside.mean(axis=1)) if estimable else "n. e.")
        rows.append(row)
    return rows


def _biases(stored: Stored) -> list[list[str]]:
    rows = _by_estimate()
    for (design, scenario), sets in stored.items():
        row = [design, scenario, str(len(sets))]
        for estimate in ESTIMATES:
            for name in QUANTITIES:
                ends = np.array([one["intervals"][estimate][name] for one in sets])
                bias = float(np.nanmean(ends[..., 1] - ends[..., 0]))
                row.append(score_text(bias, signed=True))
        rows.append(row)
    return rows


def _tests(stored: Stored) -> list[list[str]]:
    rows = [["design", "arms", "data sets", "equal arms, swaps alone", "equal arms"]]
    rows[0] += ["any of 4 or 5, adjusted", "better arm, adjusted", "its difference"]
    rows[0] += ["difference said to be found"]
    for (design, scenario), sets in stored.items():
        p, alone, adjusted = (
            (np.array([one[name] for one in sets]) < 0.05).astype(np.float64)
            for name in ("p", "p_records", "p_adjusted")
        )
        equal = slice(0 if scenario == "equal" else 1, None)
        difference = np.mean([one["differences"][_tested(design)][0][0] for one in sets])
        detectable = np.median([one["detectable"] for one in sets])
        better = scenario == "better"
        heading = [design, scenario, str(len(sets)), in_percent(alone[:, equal].mean(axis=1))]
        if not np.isfinite(detectable):  # nothing is tested
            rows.append([*heading, *["n. e."] * (len(rows[0]) - len(heading))])
            continue
        rows.append(
            [
                *heading,
                in_percent(p[:, equal].mean(axis=1)),
                in_percent(adjusted[:, equal].max(axis=1)),
                in_percent(adjusted[:, 0]) if better else "-",
                score_text(float(difference)) if better else "-",
                score_text(float(detectable)),
            ]
        )
    return rows


def _choices(stored: Stored) -> list[list[str]]:
    rows = [["design", "arms", "data sets", "as it scored", "out of bag, plain", "as quoted"]]
    for (design, scenario), sets in stored.items():
        values = np.array([one["arms"][_tested(design)] for one in sets])[..., 0]
        truth = values.mean(axis=0)
        equal = slice(0 if scenario == "equal" else 1, None)
        truth[equal] = truth[equal].mean()
        true = np.array([truth[int(one["best"].removeprefix("arm"))] for one in sets])
        row = [design, scenario, str(len(sets))]
        for name in ("value", "out_of_bag", "corrected"):
            off = np.array([one[name] for one in sets]) - true
            row.append(
                f"{score_text(float(off.mean()), signed=True)} ± {score_text(float(off.std()))}"
            )
        rows.append(row)
    return rows


def _sizes(stored: Stored) -> list[list[str]]:
    rows = [["design", "S", "V", "sd over folds", "sd over seeds"]]
    for (design, scenario), sets in stored.items():
        if scenario == "equal":
            scores = [np.mean([one["arms"][name] for one in sets], axis=0)[:, 0] for name in "SV"]
            spreads = [np.mean([one["spreads"][name] for one in sets]) for name in SPREADS]
            values = [*(float(np.mean(score)) for score in scores), *map(float, spreads)]
            rows.append([design, *map(score_text, values)])
    return rows


def _tested(design: str) -> str:
    """Return the quantity that a design's contrasts are tested on."""
    return parts_of(designs()[design].objective)[1]


def in_percent(by_set: NDArray[np.floating]) -> str:
    """Return a mean over data sets [sets], in percent, with its standard error."""
    error = 100 * by_set.std(ddof=1) / np.sqrt(len(by_set))
    return f"{100 * by_set.mean():.1f} ± {error:.1f}"


def speed() -> None:
    """Time 2,000 resamples of ten arms and 51,000 beats, and parts of a whole comparison."""
    rng = np.random.default_rng(0)
    for name in ("ds1", "ds2"):
        design = designs()[name]
        beats = design.beats()
        arms = [
            ArmRuns(
                name=f"arm{arm}",
                log_probs=rng.standard_normal((1, len(beats.label), 4), dtype=np.float32),
                draw=np.zeros(1, dtype=np.int64),
                seed=np.zeros(1, dtype=np.int64),
                input="opt1",
                window="beat",
                fusion="film",
            )
            for arm in range(10)
        ]
        begun, wall = time.process_time(), time.perf_counter()
        compare(beats, arms, resamples=2_000)
        print(
            f"{name}: 2,000 resamples, 10 arms, {len(beats.label):,} beats, "
            f"{beats.n_folds} fold(s): {time.process_time() - begun:.1f} s of one core "
            f"({time.perf_counter() - wall:.1f} s by the clock)"
        )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("speed", "simulate", "tables"))
    parser.add_argument("--data-sets", type=int, default=500, help="per design (default 500)")
    parser.add_argument("--designs", nargs="+", default=list(designs()), help="default: all")
    parser.add_argument("--out", type=Path, default=Path("statistics_checks"), help="a folder")
    args = parser.parse_args()
    if args.what == "speed":
        speed()
        return
    if args.what == "simulate":
        run(args.out, args.data_sets, args.designs)
    for text in tables(args.out):
        print(f"{text}\n")


if __name__ == "__main__":
    main()
