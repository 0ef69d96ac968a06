"""RR reliance is 0 where RR cannot be used, and NaN with a reason where there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.keys import RELIANCE_KINDS, reliance
from study.training.loop import TrialResult, TrialTraining


def _trained(beats: BeatSet, folds: Folds, **values: Any) -> TrialResult:
    small = {"epochs": 1, "batch_size": 32, "normal_beats_per_epoch": 40, "embed_dim": 8}
    config = TrialConfig.from_flat({**small, **values})
    training = TrialTraining(config, beats, folds, n_seeds=1, study_seed=0)
    while not training.finished:
        training.run_epoch()
    return training.finish()


def _change(result: TrialResult, kind: str) -> float:
    return result.metrics[reliance(kind, "max_change")]


def test_a_model_blind_to_rr_has_identical_outputs(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    result = _trained(tiny_beats, tiny_folds, input="opt1", fusion="mhca")
    assert _change(result, "inputs") == 0
    assert [result.metrics[reliance("inputs", c)] for c in "SV"] == [0, 0]
    assert _change(result, "window") > 0
    assert _change(result, "total") == _change(result, "window")


def test_rr_only_does_not_see_the_window(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    result = _trained(
        tiny_beats, tiny_folds, input="opt1", fusion="rr_only", epochs=20, learning_rate=0.02
    )
    assert _change(result, "window") == 0
    # RR alone tells the classes apart here: permuted, S falls to about its share.
    assert result.metrics[reliance("inputs", "S")] > 0.5
    for c in "SV":
        assert result.metrics[reliance("total", c)] == result.metrics[reliance("inputs", c)]
        extremes = [result.metrics[f"{reliance('inputs', c)}_{end}"] for end in ("min", "max")]
        assert extremes[0] <= result.metrics[reliance("inputs", c)] <= extremes[1]


def test_without_rr_inputs_only_the_window_counts(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    result = _trained(tiny_beats, tiny_folds, input="ecg", fusion="none")
    name = reliance("inputs", "S")
    assert np.isnan(result.metrics[name])
    assert result.undefined[name] == "the input has no RR to permute"
    for c in ("S", "V", "max_change"):
        assert result.metrics[reliance("total", c)] == result.metrics[reliance("window", c)]


def _centred(beats: BeatSet) -> BeatSet:
    return replace(beats, segmentation="centred", reliance=replace(beats.reliance, windows=None))


def test_without_a_window_cut_by_rr_only_the_inputs_count(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    values = {"input": "opt2", "fusion": "none", "segmentation": "centred"}
    result = _trained(_centred(tiny_beats), tiny_folds, **values)
    name = reliance("window", "V")
    assert np.isnan(result.metrics[name])
    assert result.undefined[name] == "only daeac windows are cut by RR"
    for c in ("S", "V", "max_change"):
        assert result.metrics[reliance("total", c)] == result.metrics[reliance("inputs", c)]
    assert _change(result, "inputs") > 0


def test_where_rr_enters_nowhere_nothing_counts(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    values = {"input": "ecg", "fusion": "none", "segmentation": "centred"}
    result = _trained(_centred(tiny_beats), tiny_folds, **values)
    names = [reliance(kind, c) for kind in RELIANCE_KINDS for c in ("S", "V", "max_change")]
    assert all(np.isnan(result.metrics[name]) for name in names)
    assert result.undefined[reliance("total", "S")] == (
        "the input has no RR to permute, and only daeac windows are cut by RR"
    )


@pytest.mark.parametrize(
    ("input_", "fusion"), [("opt1", "film"), ("opt2", "none"), ("opt3", "mhca_time")]
)
def test_a_beat_that_is_its_own_donor_changes_nothing(
    tiny_beats: BeatSet, tiny_folds: Folds, input_: str, fusion: str
) -> None:
    """The way around the backbone, where only late RR differs, gives the outputs of the model."""
    sample = tiny_beats.reliance
    itself = replace(
        sample,
        donors=np.tile(sample.beats, (len(sample.donors), 1)),
        windows=np.tile(tiny_beats.ecg[sample.beats], (len(sample.donors), 1, 1)),
    )
    beats = replace(tiny_beats, reliance=itself)
    result = _trained(beats, tiny_folds, input=input_, fusion=fusion)
    assert [_change(result, kind) for kind in RELIANCE_KINDS] == [0, 0, 0]
    moved = _trained(tiny_beats, tiny_folds, input=input_, fusion=fusion)
    assert all(_change(moved, kind) > 0 for kind in RELIANCE_KINDS)


def test_rr_of_the_placebo_is_permuted_like_any_other(
    tiny_beats: BeatSet, tiny_folds: Folds
) -> None:
    values = {"input": "opt1", "fusion": "rr_only", "epochs": 20, "learning_rate": 0.02}
    result = _trained(tiny_beats, tiny_folds, rr="placebo", **values)
    assert _change(result, "inputs") > 0
    assert abs(result.metrics[reliance("inputs", "S")]) < 0.2
