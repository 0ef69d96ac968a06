"""What networks rely on: RR, where they attend, and their gated branch.

RR reliance is 0 where RR cannot be used, and NaN with a reason where there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.keys import CLASSES, RELIANCE_KINDS, reliance
from study.models.classifier import build_model
from study.models.fusion import ConcatProjected
from study.statistics.rr_use import RRLoss, RRUse
from study.training.device import DeviceBeats
from study.training.loop import TrialTraining
from study.training.member import seed_inputs
from study.training.reliance import masked, weights_of
from study.training.results import MASKED_SHARE, MASKS, Inspection, TrialResult
from tests.builders import small_config, small_training
from tests.training.conftest import TEMPLATED, beside_template

Trained = Callable[..., TrialResult]


@pytest.fixture(scope="module")
def trained(tiny_beats: BeatSet, tiny_folds: Folds) -> Trained:
    """A factory of results of one epoch; each configuration is trained once for all tests."""

    @cache
    def results(**values: Any) -> TrialResult:
        beats = _centred(tiny_beats) if values.get("segmentation") == "centred" else tiny_beats
        return _finished(small_training(beats, tiny_folds, **{"epochs": 1, **values}))

    return results


def _finished(training: TrialTraining) -> TrialResult:
    while not training.finished:
        training.run_epoch()
    return training.finish()


def _centred(beats: BeatSet) -> BeatSet:
    return replace(beats, segmentation="centred", reliance=replace(beats.reliance, windows=None))


def _change(result: TrialResult, kind: str) -> float:
    return result.metrics[reliance(kind, "max_change")]


def _inspection(result: TrialResult) -> Inspection:
    assert result.inspection is not None
    return result.inspection


def test_a_model_blind_to_rr_has_identical_outputs(trained: Trained) -> None:
    result = trained(input="opt1", fusion="mhca")
    loss = RRLoss.of([result.metrics], "inputs")
    assert loss.use is RRUse.CANNOT and {*loss.value.values()} == {0}
    assert _change(result, "window") > 0
    assert _change(result, "total") == _change(result, "window")


def test_rr_only_does_not_see_the_window(trained: Trained) -> None:
    result = trained(input="opt1", fusion="rr_only", epochs=20, learning_rate=0.02)
    assert _change(result, "window") == 0
    # RR alone tells the classes apart here: permuted, S falls to about its share.
    assert result.metrics[reliance("inputs", "S")] > 0.5
    for c in "SV":
        assert result.metrics[reliance("total", c)] == result.metrics[reliance("inputs", c)]
        extremes = [result.metrics[f"{reliance('inputs', c)}_{end}"] for end in ("min", "max")]
        assert extremes[0] <= result.metrics[reliance("inputs", c)] <= extremes[1]


def test_where_rr_enters_in_one_way_the_total_is_that(trained: Trained) -> None:
    no_rr, no_window = "the input has no RR to permute", "only daeac windows are cut by RR"
    for values, unmeasured, total, reason in (
        ({"input": "ecg"}, "inputs", "window", no_rr),
        ({"input": "opt2", "segmentation": "centred"}, "window", "inputs", no_window),
    ):
        result = trained(fusion="none", **values)
        assert np.isnan(result.metrics[reliance(unmeasured, "S")])
        assert result.undefined[reliance(unmeasured, "S")] == reason
        for c in ("S", "V", "max_change"):
            assert result.metrics[reliance("total", c)] == result.metrics[reliance(total, c)]
        assert _change(result, total) > 0
    nowhere = trained(input="ecg", fusion="none", segmentation="centred")
    assert {RRLoss.of([nowhere.metrics], kind).use for kind in RELIANCE_KINDS} == {RRUse.ABSENT}
    assert nowhere.undefined[reliance("total", "S")] == f"{no_rr}, and {no_window}"


@pytest.mark.parametrize(
    ("input_", "fusion", "template"),
    [
        ("opt1", "film", {}),
        ("opt2", "none", {}),
        ("opt3", "mhca_time", {}),
        ("opt1", "mhca_time", TEMPLATED),
    ],
)
def test_a_beat_that_is_its_own_donor_changes_nothing(
    tiny_beats: BeatSet, tiny_folds: Folds, input_: str, fusion: str, template: dict[str, str]
) -> None:
    """The way around the backbone, where only late RR differs, gives the outputs of the model."""
    values: dict[str, Any] = {"input": input_, "fusion": fusion, "epochs": 1, **template}
    if template:
        tiny_beats = beside_template(tiny_beats)
    training = small_training(tiny_beats, tiny_folds, **values)
    moved = _finished(training)
    assert all(_change(moved, kind) > 0 for kind in RELIANCE_KINDS)
    sample = tiny_beats.reliance
    itself = replace(
        sample,
        donors=np.tile(sample.beats, (len(sample.donors), 1)),
        windows=np.tile(tiny_beats.ecg[sample.beats], (len(sample.donors), 1, 1)),
    )
    reference = tiny_beats.reference
    if reference is not None:
        recut = np.tile(reference.deviation[sample.beats], (len(sample.donors), 1, 1))
        reference = replace(reference, recut=recut)
    beats = replace(tiny_beats, reliance=itself, reference=reference)
    again = small_training(beats, tiny_folds, **values)
    again.load_state_dict(training.state_dict())
    assert [_change(again.finish(), kind) for kind in RELIANCE_KINDS] == [0, 0, 0]


@pytest.mark.parametrize("rr", ["real", "placebo"])
def test_rr_is_permuted_and_the_shape_stays(tiny_beats: BeatSet, rr: str) -> None:
    beats = DeviceBeats(beside_template(tiny_beats), torch.device("cpu"))
    reference = beats.beats.reference
    assert reference is not None
    config = small_config(input="opt1", fusion="film", rr=rr, **TEMPLATED)
    inputs = seed_inputs(config, beats, study_seed=0, seed_index=0)
    index, donors = torch.tensor([3, 4, 5]), torch.tensor([30, 1, 7])
    batch = inputs.take(index)
    donated = inputs.donated(batch, donors)
    assert inputs.late_rr is not None and donated.late_rr is not None
    assert torch.equal(donated.late_rr, inputs.late_rr[donors])
    assert torch.equal(donated.ecg, inputs.ecg[index])
    assert (inputs.late_rr.numpy() == tiny_beats.rr["published7"]).all() == (rr == "real")
    for seen in (batch, donated):
        assert seen.late_shape is not None
        np.testing.assert_array_equal(seen.late_shape, reference.distances[index])


def test_unpermuted_the_sample_scores_as_the_trial(tiny_beats: BeatSet, tiny_folds: Folds) -> None:
    values: dict[str, Any] = {"input": "opt1", "fusion": "mhca_time", "heads": 2, "epochs": 1}
    training = small_training(tiny_beats, tiny_folds, **values)
    score = _finished(training).metrics["val_auprc_S"]
    sampled = tiny_beats.reliance.beats
    assert len(sampled) == len(tiny_beats.label), "all normal beats: there are few"
    # Every third normal beat of each record stands for those left out.
    normal = np.cumsum(tiny_beats.label[sampled] == 0)
    some = (tiny_beats.label[sampled] != 0) | (normal % 3 == 1)
    donors = tiny_beats.reliance.donors[:, some]
    fewer = replace(tiny_beats.reliance, beats=sampled[some], donors=donors, windows=None)
    beats = replace(tiny_beats, reliance=fewer)
    weights = weights_of(beats)
    n_normal = np.bincount(tiny_beats.record[tiny_beats.label == 0])
    at = tiny_beats.label[fewer.beats] == 0
    assert np.bincount(tiny_beats.record[fewer.beats[at]], weights[at]) == pytest.approx(n_normal)
    assert (weights[~at] == 1).all()
    for some_beats, tolerance in ((tiny_beats, 1e-12), (beats, 0.05)):
        again = small_training(some_beats, tiny_folds, **values)
        again.load_state_dict(training.state_dict())
        inspection = _inspection(again.finish())
        assert inspection.deletion["nothing"] == pytest.approx(score, abs=tolerance)
    assert tuple(inspection.deletion) == MASKS
    assert all(0 <= value <= 1 for value in inspection.deletion.values())
    assert inspection.attention is not None and inspection.attention.shape == (4, 2, 64)
    np.testing.assert_allclose(inspection.attention.sum(axis=2), 1.0, rtol=1e-4)
    assert inspection.branch_share is not None and inspection.branch_share.shape == (4,)


def test_the_steps_of_highest_rank_are_masked() -> None:
    ecg = torch.arange(1.0, 21.0).repeat(2, 1)
    rank = torch.zeros(2, 10)
    rank[0, 3], rank[0, 4], rank[1, 9], rank[1, 0] = 1.0, 2.0, 1.0, 1.0
    result = masked(ecg, rank)
    # A fifth of 10 steps are 2, of 2 samples each.
    assert MASKED_SHARE == 0.2
    assert (result[0] == 0).nonzero().flatten().tolist() == [6, 7, 8, 9]
    assert (result[1] == 0).nonzero().flatten().tolist() == [0, 1, 18, 19]
    assert torch.equal(result[result != 0], ecg[result != 0])


def test_what_is_sampled_is_described(tiny_beats: BeatSet, trained: Trained) -> None:
    inspection = _inspection(trained(input="ecg", fusion="none"))
    sample = tiny_beats.reliance.beats
    of_v = sample[tiny_beats.label[sample] == CLASSES.index("V")]
    assert inspection.beats.sum() == len(sample)
    assert inspection.beats[CLASSES.index("V")] == len(of_v)
    np.testing.assert_allclose(
        inspection.mean_beat[CLASSES.index("V")], tiny_beats.ecg[of_v].mean(axis=0), rtol=1e-5
    )


def test_branch_share_by_hand(tiny_beats: BeatSet, tiny_folds: Folds, trained: Trained) -> None:
    """Of a linear head it can be had from its inputs; the ECG has the rest."""
    values: dict[str, Any] = {"input": "opt1", "fusion": "concat_proj", "dropout": 0.0}
    result = trained(**values)
    config = small_config(**values)
    sample, fold = tiny_beats.reliance.beats, tiny_folds.of_beats(tiny_beats)[0]
    shares = []
    for number, weights in enumerate(result.weights):
        model = build_model(config.signal, config.model, seed=(0,)).eval()
        model.load_state_dict(weights)
        at = sample[fold[sample] == number]
        rr = torch.from_numpy(tiny_beats.rr["published7"][at])
        with torch.inference_mode():
            logits = model(torch.from_numpy(tiny_beats.ecg[at]), None, rr).numpy()
            fusion = cast(ConcatProjected, model.fusion)
            gated = fusion.rr(model.scaled(rr, None)) * fusion.gate_values()
            branch = (gated @ fusion.head.output.weight[:, 8:].T).numpy()
        pairs = zip(branch.T, logits.T, strict=True)
        shares.append([np.cov(b, y, bias=True)[0, 1] / y.var() for b, y in pairs])
    assert result.inspection is not None and result.inspection.branch_share is not None
    np.testing.assert_allclose(result.inspection.branch_share, np.mean(shares, axis=0), rtol=1e-3)
