"""Checks what p is about: equal learners that are trained, as the arms of a study are.

  python -m benchmarks.trained_learners [--data-sets 200] [--partitions 1 3]

`benchmarks/statistics_checks.py` simulates scores. Here six learners are trained: linear
discriminants (pooled covariance) on the patients of the other folds, in three runs each, with the
folds of one partition or of three, one for each run. A data set has 22 new patients with the
published counts of DS1. Each learner sees six features that all see and four of its own, which
have the same distribution for all learners. So no learner is better than another over new
patients, and every p below .05 is a false finding. A run leaves one of the learner's own features
out, at random, as another seed would change a network.

Shapes: N beats, L learners, F features, C classes, K folds, P partitions.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from benchmarks.statistics_checks import COUNTS_DS1, counts_of, in_percent
from study.data.catalogue import DS1
from study.data.folds import different_folds
from study.keys import AUPRC_SV, CLASSES
from study.statistics.comparison import compare
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.weighted_metrics import Float
from study.wording import score_text

LEARNERS, RUNS, COMMON, OWN = 6, 3, 6, 4
RESAMPLES, SWAPS = 500, 999

FAR = np.array([[0.0] * 4, [1.4, 0.7, 0.35, 0.0], [-0.5, 1.4, 1.2, 0.6], [0.5, 0.5, 0.5, 0.5]])
"""Mean of features by class [C, F], of which the common ones repeat the first."""

OF_PATIENT, OF_CLASS = 0.7, 0.5
"""Standard deviations over patients of a feature, and of its distance between classes."""


def beats_of(n_partitions: int) -> Beats:
    """Return beats with DS1's counts, in folds of one or more partitions."""
    counts = counts_of(COUNTS_DS1)
    cells = np.repeat(np.arange(counts.size), counts.ravel())
    every = different_folds(DS1, counts, 5, 0, {})
    folds_of_record = []
    for _, folds in islice(every, n_partitions):
        fold_of = {name: k for k, names in enumerate(folds.validation) for name in names}
        folds_of_record.append(tuple(fold_of[name] for name in DS1))
    return Beats(
        label=cells % len(CLASSES),
        record=cells // len(CLASSES),
        record_names=DS1,
        patient_of_record=DS1,
        folds_of_record=tuple(folds_of_record),
    )


def features(beats: Beats, n: int, rng: np.random.Generator) -> Float:
    """Return features of new patients, [N, n]."""
    far = np.resize(FAR.T, (n, len(CLASSES))).T
    of_patient = rng.normal(0, OF_PATIENT, (len(beats.record_names), 1, n))
    of_class = rng.normal(0, OF_CLASS, (len(beats.record_names), len(CLASSES), n))
    of_class[:, 0] = 0.0
    cells = (far + of_patient + of_class)[beats.record, beats.label]
    return np.asarray(cells + rng.standard_normal(cells.shape))


def learned(x: Float, beats: Beats, training: NDArray[np.bool_]) -> Float:
    """Train on some beats; return the weights of a linear discriminant, [F + 1, C]."""
    x, label = x[training], beats.label[training]
    means = np.stack([x[label == c].mean(axis=0) for c in range(len(CLASSES))])
    within = x - means[label]
    slopes = np.linalg.solve(within.T @ within / len(x), means.T)
    priors = np.log(np.bincount(label, minlength=len(CLASSES)) / len(label))
    return np.vstack([slopes, priors - (means * slopes.T).sum(axis=1) / 2])


def arms_of(beats: Beats, rng: np.random.Generator) -> list[ArmRuns]:
    """Return the out-of-fold predictions of all learners on new patients."""
    common = features(beats, COMMON, rng)
    arms = []
    for number in range(LEARNERS):
        every = np.hstack([common, features(beats, OWN, rng)])
        log_probs = np.zeros((RUNS, len(beats.label), len(CLASSES)), dtype=np.float32)
        for run in range(RUNS):
            fold = beats.fold[run % beats.n_partitions]
            x = np.delete(every, COMMON + rng.integers(OWN), axis=1)
            for k in range(beats.n_folds):
                weights = learned(x, beats, fold != k)
                held = fold == k
                log_probs[run, held] = log_softmax(x[held] @ weights[:-1] + weights[-1], axis=1)
        # Not looked at, and dear to score: all beats tie.
        log_probs[:, :, [CLASSES.index("N"), CLASSES.index("F")]] = 0.0
        arms.append(
            ArmRuns(
                name=f"learner{number}",
                log_probs=log_probs,
                draw=np.zeros(RUNS, dtype=np.int64),
                seed=np.arange(RUNS),
                input="opt1",
                window="beat",
                fusion="film",
            )
        )
    return arms


def table(n_data_sets: int, n_partitions: Sequence[int]) -> Iterator[str]:
    """Yield how often equal learners are called different, a row for each number of partitions."""
    yield "| partitions | data sets | p below .05, % of contrasts | any of 5, adjusted | S | V |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for n in n_partitions:
        beats, raw, adjusted, scores = beats_of(n), [], [], []
        for seed in range(n_data_sets):
            arms = arms_of(beats, np.random.default_rng([seed, 7]))
            found = compare(
                beats,
                arms,
                contrasts=[(arm.name, arms[0].name) for arm in arms[1:]],
                objective=AUPRC_SV,
                resamples=RESAMPLES,
                permutations=SWAPS,
                seed=seed,
            )
            tested = [pair for pair in found.contrasts if pair.primary]
            raw.append(np.mean([pair.p < 0.05 for pair in tested]))
            adjusted.append(float(any(pair.p_adjusted < 0.05 for pair in tested)))
            scores.append([[arm.estimates[c].value for c in "SV"] for arm in found.arms])
        s, v = np.mean(scores, axis=(0, 1))
        shares = f"{in_percent(np.array(raw))} | {in_percent(np.array(adjusted))}"
        yield f"| {n} | {n_data_sets} | {shares} | {score_text(s)} | {score_text(v)} |"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-sets", type=int, default=200, help="default 200")
    parser.add_argument("--partitions", type=int, nargs="+", default=[1, 3], help="default 1 3")
    args = parser.parse_args()
    begun = time.process_time()
    for line in table(args.data_sets, args.partitions):
        print(line, flush=True)
    print(f"\n{time.process_time() - begun:.0f} s of one core")


if __name__ == "__main__":
    main()
