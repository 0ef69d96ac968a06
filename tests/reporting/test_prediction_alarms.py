"""What stored predictions raise an alarm for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from study.keys import CLASSES
from study.reporting.alarms import Severity
from study.reporting.prediction_alarms import (
    PredictionFacts,
    constant_alarms,
    describe_predictions,
    no_effect_alarms,
)
from study.store.trials import TrialRow
from tests.builders import trial_row

FOLD = np.array([0, 0, 0, 1, 1, 1, -1])


def log_probs(n_seeds: int = 2) -> NDArray[np.float32]:
    """Predictions of 7 beats, the last in no fold; every member decides for two classes."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(n_seeds, len(FOLD), len(CLASSES)))
    values[:, ::2, 0] = 9
    values[:, 1::2, 1] = 9
    values -= np.log(np.exp(values).sum(axis=2, keepdims=True))
    values[:, FOLD < 0] = np.nan
    return values.astype(np.float32)


def row(number: int, digest: str = "", **params: object) -> TrialRow:
    return trial_row(number, "mhca", digest=digest or f"d{number}", params=params)


def facts(
    digest: str = "same", level: float | None = None, flat: int = 0, **one_class: int
) -> PredictionFacts:
    """Facts of predictions whose sample is as far from others' as their digests' letters."""
    sample = np.full((1, 3, 4), ord(digest[0]) if level is None else level, dtype=np.float32)
    return PredictionFacts(
        digest=digest, sample=sample, members=10, flat=flat, one_class=one_class
    )


def test_predictions_that_vary_are_neither_flat_nor_of_one_class() -> None:
    found = describe_predictions(log_probs(), FOLD)
    assert (found.members, found.flat, found.one_class) == (4, 0, {})


def test_members_that_are_constant_are_counted() -> None:
    values = log_probs()
    values[0, FOLD == 1] = np.log([0.7, 0.1, 0.1, 0.1])
    values[1, FOLD == 0, 2] = 0.0  # the largest there is
    found = describe_predictions(values, FOLD)
    assert (found.members, found.flat, found.one_class) == (4, 1, {"N": 1, "V": 1})


def test_the_sample_is_of_all_seeds_and_of_beats_in_folds() -> None:
    values = log_probs()
    assert np.array_equal(describe_predictions(values, FOLD).sample, values[:, FOLD >= 0])
    many = np.zeros((3, 5000, 4), dtype=np.float32)
    assert describe_predictions(many, np.zeros(5000, int)).sample.shape == (3, 500, 4)


def test_the_digest_is_that_of_the_last_bit_of_the_beats_in_folds() -> None:
    values, other = log_probs(), log_probs()
    assert describe_predictions(values, FOLD).digest == describe_predictions(other, FOLD).digest
    other[:, FOLD < 0] = 0.0
    assert describe_predictions(values, FOLD).digest == describe_predictions(other, FOLD).digest
    other[0, 0, 0] = np.nextafter(other[0, 0, 0], np.float32(1))
    assert describe_predictions(values, FOLD).digest != describe_predictions(other, FOLD).digest


def test_a_parameter_that_changes_nothing_is_named_once_with_its_values() -> None:
    rows = [
        row(0, heads=1, embed_dim=32),
        row(1, heads=4, embed_dim=32),
        row(2, heads=1, embed_dim=64),
        row(3, heads=8, embed_dim=64),
        row(4, heads=8, embed_dim=128),
    ]
    predictions = dict(zip(("d0", "d1"), [facts("a")] * 2, strict=True))
    predictions |= {"d2": facts("b"), "d3": facts("b"), "d4": facts("c")}
    (alarm,) = no_effect_alarms(rows, predictions)
    assert str(alarm) == (
        "warning: heads changes nothing in mhca: equal to the last bit are trials 0 and 1 "
        "(heads = 1; 4) and trials 2 and 3 (heads = 1; 8); count these trials as "
        "one try, and leave out what does nothing"
    )


def test_what_differs_by_rounding_alone_is_told_apart_from_what_is_equal() -> None:
    rows = [row(0, heads=1), row(1, heads=4), row(2, heads=8)]
    predictions = {"d0": facts("a", 0.0), "d1": facts("b", 9e-5), "d2": facts("c", 2e-4)}
    (alarm,) = no_effect_alarms(rows, predictions)
    assert alarm.what == "heads changes nothing in mhca"
    assert alarm.evidence == "equal but for rounding are trials 0 and 1 (heads = 1; 4)"


def test_only_the_smallest_differences_are_named() -> None:
    rows = [row(0, heads=1, gate=-2.0), row(1, heads=2, gate=-2.0), row(2, heads=1, gate=0.0)]
    predictions = {f"d{n}": facts() for n in range(3)}
    whats = [alarm.what for alarm in no_effect_alarms(rows, predictions)]
    assert whats == ["gate changes nothing in mhca", "heads changes nothing in mhca"]


def test_parameters_that_only_changed_together_are_named_together() -> None:
    rows = [row(0, heads=1, gate="off"), row(1, heads=2, gate="learned", gate_init=-2.0)]
    (alarm,) = no_effect_alarms(rows, {"d0": facts(), "d1": facts()})
    assert alarm.what == "gate, gate_init and heads together change nothing in mhca"
    assert "(gate, gate_init, heads = off, none, 1; learned, -2, 2)" in str(alarm)


def test_different_results_and_repeats_raise_nothing() -> None:
    rows = [row(0, heads=1), row(1, heads=2), row(2, "d0", heads=1)]
    assert no_effect_alarms(rows, {"d0": facts("a"), "d1": facts("b")}) == []
    assert no_effect_alarms(rows, {}) == [], "pruned and failed trials leave no predictions"


@pytest.mark.parametrize(
    ("found", "severity", "said"),
    [
        (
            facts(flat=3, N=3),
            Severity.ERROR,
            "error: 1 of 2 trials predict a constant: the same log-probabilities for every beat: "
            "trial 0 (mhca), 3 of 10 members; they have learned nothing: lower the learning rate, "
            "look at their losses",
        ),
        (
            facts(N=2, V=1),
            Severity.WARNING,
            "warning: 1 of 2 trials decide for one class: for every beat: trial 0 (mhca), N by 2 "
            "of 10 members and V by 1 of 10 members; their F1, Se and +P say nothing; their "
            "ranking metrics still may",
        ),
    ],
    ids=["flat", "one class"],
)
def test_constant_predictors_are_named(
    found: PredictionFacts, severity: Severity, said: str
) -> None:
    (alarm,) = constant_alarms([row(0), row(1), row(2)], {"d0": found, "d1": facts()})
    assert (alarm.severity, str(alarm)) == (severity, said)
    assert constant_alarms([row(0)], {"d0": facts()}) == []
    assert constant_alarms([row(0)], {}) == []
