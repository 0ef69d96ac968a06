"""Beats that stand for others before the last epoch."""

from __future__ import annotations

import numpy as np

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.training.loop import TrialTraining
from study.training.steering import STANDS_FOR, stand_ins


def test_the_middle_of_five_normal_beats_stands_for_them_within_its_record() -> None:
    label = np.array([0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 3])
    record = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    assert STANDS_FOR == 5
    # Normal beats of record 0: 0 1 3 4 5, of which 3 is in the middle, then 6 alone.
    assert stand_ins(label, record).tolist() == [3, 3, 2, 3, 3, 3, 6, 9, 8, 9, 10]


def test_a_stand_in_stands_for_itself_and_other_classes_for_nobody() -> None:
    rng = np.random.default_rng(0)
    label = rng.choice(4, size=2_000, p=[0.9, 0.04, 0.04, 0.02])
    record = np.sort(rng.integers(0, 7, size=2_000))
    stands = stand_ins(label, record)
    assert (stands[stands] == stands).all()
    assert (label[stands] == label).all() and (record[stands] == record).all()
    assert (stands[label != 0] == np.flatnonzero(label != 0)).all()
    assert len(np.unique(stands[label == 0])) < (label == 0).sum() / STANDS_FOR + 7


def test_epochs_before_the_last_predict_stand_ins_and_the_last_predicts_every_beat(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    config = TrialConfig.from_flat({"fusion": "rr_only", "epochs": 2, "batch_size": 32})
    training = TrialTraining(config, tiny_beats, tiny_folds, n_seeds=1, study_seed=0)
    stands = stand_ins(tiny_beats.label, tiny_beats.record)
    while not training.finished:
        training.run_epoch()
        predictions = training._predictions
        assert predictions is not None
        replaced = bool((predictions == predictions[:, stands]).all())
        assert replaced is not training.finished
    exact = training._predict(exact=True)
    rough = training._predict(exact=False)
    assert (rough == exact[:, stands]).all()


def test_the_last_score_of_a_screening_steers_too(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    config = TrialConfig.from_flat({"fusion": "rr_only", "epochs": 1, "batch_size": 32})
    screening, trial = (
        TrialTraining(config, tiny_beats, tiny_folds, n_seeds=1, study_seed=0, screening=screening)
        for screening in (True, False)
    )
    stands = stand_ins(tiny_beats.label, tiny_beats.record)
    for training in (screening, trial):
        training.run_epoch()
    in_full = trial.finish().log_probs
    assert screening._predictions is not None
    assert np.array_equal(screening._predictions, in_full[:, stands], equal_nan=True)
    assert np.array_equal(screening.finish().log_probs, in_full, equal_nan=True)
