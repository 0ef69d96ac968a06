"""Scores under weightings of the records against plain loops, and how patients are drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

from study.keys import CLASSES
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.resampling import SeedShares, WeightedScores, draw_patients
from study.statistics.swapping import draw_swaps, swap_test
from tests.builders import MakeArm

SKLEARN = {"auprc": average_precision_score, "auroc": roc_auc_score}


def by_loops(
    beats: Beats, arm: ArmRuns, times: NDArray[np.float64], measure: str
) -> NDArray[np.float64]:
    """Return all scores [R, F, C] where each record's beats are repeated `times` [G]."""
    rows = np.repeat(np.arange(len(beats.label)), times[beats.record].astype(int))
    scores = np.full((len(arm.draw), beats.n_folds, len(CLASSES)), np.nan)
    for run, fold, c in np.ndindex(scores.shape):
        in_fold = rows[beats.fold[0][rows] == fold]
        positive = beats.label[in_fold] == c
        if positive.sum() >= 10 and not positive.all():
            scores[run, fold, c] = SKLEARN[measure](positive, arm.log_probs[run, in_fold, c])
    return scores


@pytest.mark.parametrize("measure", SKLEARN)
def test_resampled_scores_equal_plain_loops(beats: Beats, make_arm: MakeArm, measure: str) -> None:
    """Runs in any order: they are paired by their draw and seed.

    In the last resample but one, fold 1 has record 104 alone, with no S and six F: fold 0 counts
    alone. In the last one fold 0 has nobody, and S and F are undefined.
    """
    rng = np.random.default_rng(0)
    few = np.zeros((2, 9))
    few[:, 4] = few[0, :2] = 1
    weights = np.concatenate([draw_patients(beats, 6, rng), few])
    seeds = SeedShares.drawn(beats, 3, len(weights), rng)
    order = rng.permutation(6)
    one, other = make_arm("film"), make_arm("concat", better=0.5)
    shuffled = {name: getattr(other, name)[order] for name in ("log_probs", "draw", "seed")}
    other = replace(other, **shuffled)
    scores = WeightedScores.of(beats, [one, other], weights, measure)
    plain, drawn = scores.by_class(), scores.by_class(seeds=seeds)
    for a, arm in enumerate((one, other)):
        for w, times in enumerate(weights):
            of_runs = by_loops(beats, arm, times, measure)
            expected = np.ma.masked_invalid(of_runs.mean(axis=0)).mean(axis=0).filled(np.nan)
            assert plain[a, w] == pytest.approx(expected, abs=1e-6, nan_ok=True)
            share = seeds.seed[w][:, arm.seed].T[..., None] / 2  # of two draws
            of_draws = np.ma.masked_invalid((of_runs * share).sum(axis=0))
            expected = of_draws.mean(axis=0).filled(np.nan)
            assert drawn[a, w] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_one_less_than_all_patients_of_each_fold_are_drawn(beats: Beats) -> None:
    weights = draw_patients(beats, 4000, np.random.default_rng(1))
    assert (weights[:, 1] == weights[:, 3]).all(), "101 and 103 are one patient"
    in_first = weights[:, [0, 1, 2]].sum(axis=1)
    assert set(in_first) == {2}, "two of three patients"
    assert set(weights[:, 4:8].sum(axis=1)) == {3}
    assert not weights[:, 8].any(), "in no fold"
    assert weights[:, 4:8].mean(axis=0) == pytest.approx([0.75] * 4, abs=0.06)
    alone = replace(beats, folds_of_record=((0, 0, 0, 0, 1, -1, -1, -1, -1),))
    assert set(draw_patients(alone, 50, np.random.default_rng(0))[:, 4]) == {1.0}


def test_seeds_are_drawn_by_fold_and_one_seed_stays(beats: Beats) -> None:
    shares = SeedShares.drawn(beats, 3, 200, np.random.default_rng(0)).seed
    assert shares.shape == (200, 2, 3)
    assert set(np.unique(shares)) == {0.0, 0.5, 1.0}, "two of three seeds"
    assert shares.sum(axis=2) == pytest.approx(np.ones((200, 2)))
    assert not (shares[:, 0] == shares[:, 1]).all()
    assert (SeedShares.drawn(beats, 1, 10, np.random.default_rng(0)).seed == 1.0).all()


def test_with_partitions_each_seed_is_scored_on_its_own(beats: Beats, make_arm: MakeArm) -> None:
    """Two partitions and seeds, one draw; the same weights and swaps of records in both."""
    other = (0, 1, 0, 1, 0, 1, 0, 1, -1)
    both = replace(beats, folds_of_record=(*beats.folds_of_record, other))
    arms = [
        replace(arm, log_probs=arm.log_probs[:2], draw=arm.draw[:2], seed=np.arange(2))
        for arm in (make_arm("film"), make_arm("concat", better=0.5))
    ]
    rng = np.random.default_rng(0)
    weights = draw_patients(both, 6, rng)
    assert set(weights.sum(axis=1) - weights[:, 3]) == {5}, "seven patients of two folds, less two"
    swaps, shares = draw_swaps(both, 8, rng), SeedShares.drawn(both, 2, 6, rng)
    assert shares.seed.shape == (6, 4, 1) and set(np.unique(shares.partition)) == {0.0, 1.0}
    scores = WeightedScores.of(both, arms, weights, "auprc")
    test = swap_test(both, [(arms[0], arms[1])], classes=("S", "V"), measure="auprc", swaps=swaps)
    alone, nulls = [], []
    for seed, folds in enumerate(both.folds_of_record):
        of_one = replace(beats, folds_of_record=(folds,))
        run = slice(seed, seed + 1)
        of_seed = [
            replace(arm, log_probs=arm.log_probs[run], draw=arm.draw[run], seed=arm.seed[run])
            for arm in arms
        ]
        alone.append(WeightedScores.of(of_one, of_seed, weights, "auprc").by_class())
        found = swap_test(
            of_one, [(of_seed[0], of_seed[1])], classes=("S", "V"), measure="auprc", swaps=swaps
        )
        nulls.append(np.append(found.observed, found.null))
    assert scores.by_class() == pytest.approx(np.mean(alone, axis=0), abs=1e-6, nan_ok=True)
    drawn = np.take_along_axis(
        np.stack(alone), shares.partition.argmax(axis=1)[None, None, :, None], axis=0
    )[0]
    assert scores.by_class(seeds=shares) == pytest.approx(drawn, abs=1e-6, nan_ok=True)
    assert np.append(test.observed, test.null) == pytest.approx(np.mean(nulls, axis=0), abs=1e-6)
