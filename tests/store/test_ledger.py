"""The ledger against real Optuna storages on disk."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event
from sqlalchemy.engine import Engine

from study.config import TrialConfig
from study.keys import Outcome, Tag
from study.store.history import BEGAN, epochs_of
from study.store.ledger import Ledger
from study.store.trials import Proposal, TrialRow, rungs
from tests import builders


def proposal(dropout: float, **more: Any) -> Proposal:
    config = TrialConfig.from_flat({"fusion": "concat_proj", "dropout": dropout})
    space = {"dropout": FloatDistribution(0.0, 0.9)}
    return builders.proposal(config, params={"dropout": dropout}, distributions=space, **more)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def open_ledger(url: str, *, reduction_factor: int | None = None) -> Ledger:
    return Ledger(storage_url=url, name="s", epochs=6, reduction_factor=reduction_factor)


def begin(ledger: Ledger, point: Proposal) -> int:
    return ledger.open(ledger.enqueue(point), point)


def finish(ledger: Ledger, number: int, value: float) -> None:
    ended: dict[str, Any] = {"cause": "", "epochs": 6, "seconds": 1.0, "objective": value}
    ledger.close(number, Outcome.COMPLETE, metrics={"val_auprc_sv": value}, **ended)


def stored(url: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name="s", storage=url).trials


def scores(ledger: Ledger) -> dict[int, float]:
    return {row.number: row.metric("val_auprc_sv") for row in ledger.trials().rows}


def test_an_outcome_is_told_apart_in_optuna(url: str) -> None:
    ledger, settled = open_ledger(url), list[TrialRow]()
    metrics = {"a": 0.5, "undefined": math.nan}
    ended: dict[str, Any] = {"metrics": metrics, "epochs": 1, "seconds": 2.0, "objective": 0.4}
    for outcome, state in (
        (Outcome.COMPLETE, TrialState.COMPLETE),
        (Outcome.PRUNED, TrialState.PRUNED),
        (Outcome.FAILED, TrialState.FAIL),
        (Outcome.STOPPED, TrialState.FAIL),
    ):
        number = begin(ledger, proposal(len(settled) / 10))
        ledger.record(number, 1, 0.4, {})
        row = ledger.close(number, outcome, cause="why", **ended)
        assert (row.number, row.outcome, row.metric("a")) == (number, outcome, 0.5)
        trial = stored(url)[number]
        assert trial.state is state
        assert (trial.user_attrs[Tag.OUTCOME], trial.user_attrs[Tag.CAUSE]) == (outcome, "why")
        assert trial.user_attrs["metrics"] == {"a": 0.5}
        settled += [] if outcome is Outcome.STOPPED else [row]
        assert ledger.trials().rows == tuple(settled)


@contextmanager
def killed_after(written: int) -> Iterator[None]:
    """Let the driver die when it has written so many attributes of a trial."""
    write, done = optuna.Trial.set_user_attr, iter(range(written))

    def write_or_die(trial: optuna.Trial, key: str, value: Any) -> None:
        if next(done, None) is None:
            raise KeyboardInterrupt
        write(trial, key, value)

    dying = mock.patch.object(optuna.Trial, "set_user_attr", write_or_die)
    with dying, pytest.raises(KeyboardInterrupt):
        yield


@pytest.mark.parametrize("written", [0, 2, 4])
def test_a_driver_killed_while_it_closed_a_trial_owes_it(url: str, written: int) -> None:
    ledger = open_ledger(url)
    number = begin(ledger, proposal(0.1))
    ledger.record(number, 1, 0.4, {"val_auprc_sv": 0.4})
    with killed_after(written):
        finish(ledger, number, 0.4)
    assert [trial.number for trial in open_ledger(url).reconcile()] == [number]
    (trial,) = stored(url)
    assert (trial.state, trial.user_attrs[Tag.OUTCOME]) == (TrialState.FAIL, "stopped")
    assert "metrics" not in trial.user_attrs


def test_a_duplicate_is_told_the_known_value_and_does_not_count(url: str) -> None:
    ledger = open_ledger(url)
    finish(ledger, begin(ledger, proposal(0.1)), 0.5)
    known = ledger.trials().rows[0]
    with killed_after(1):
        ledger.close_duplicate(ledger.enqueue(proposal(0.1)), proposal(0.1), known)
    again = open_ledger(url)
    assert again.reconcile() == [], "a repeat that was half written owes nothing"
    again.close_duplicate(again.enqueue(proposal(0.1)), proposal(0.1), known)
    trials = stored(url)
    assert [trial.value for trial in trials] == [0.5, None, 0.5]
    assert trials[2].user_attrs["duplicate_of"] == 0
    assert list(scores(again)) == [0]


def test_a_driver_killed_while_it_enqueued_leaves_nothing_in_the_way(url: str) -> None:
    ledger = open_ledger(url)
    assert ledger.trials().next_index == 0
    ledger._study.enqueue_trial({"dropout": 0.3})

    again = open_ledger(url)
    assert again.reconcile() == []
    assert [trial.state for trial in stored(url)] == [TrialState.FAIL]
    begin(again, proposal(0.1, index=0))
    begin(again, proposal(0.2, index=1))
    assert again.trials().rows == ()
    assert open_ledger(url).trials().next_index == 2, "what was ever proposed counts"


@pytest.mark.parametrize("written", [0, 3, 6])
def test_a_driver_killed_while_it_opened_a_trial_proposes_it_again(url: str, written: int) -> None:
    with killed_after(written):
        begin(open_ledger(url), proposal(0.1, index=0))
    again = open_ledger(url)
    assert again.reconcile() == []
    assert again.trials().next_index == 0


SCORES_OF_THREE = [(0.1, 0.3), (0.2, 0.2), (0.3, 0.4)]
"""At the first rung and at the end: ranks 1 2 3 against 2 1 3.

rho = 1 - 6 * (1 + 1 + 0) / (3 * 8) = 0.5.
"""


def test_rung_correlation_needs_three_finished_trials(url: str) -> None:
    ledger = open_ledger(url, reduction_factor=2)
    for place, (rung, final) in enumerate(SCORES_OF_THREE):
        assert math.isnan(ledger.trials().rung_correlation()[0])
        number = begin(ledger, proposal(place / 10, protected=True))
        ledger.record(number, 2, rung, {})
        finish(ledger, number, final)
    rho, n_finished = ledger.trials().rung_correlation()
    assert (round(rho, 9), n_finished) == (0.5, 3)


def test_a_screened_score_takes_the_place_of_the_first_rung(url: str) -> None:
    ledger = open_ledger(url)
    for place, (screened, final) in enumerate([*SCORES_OF_THREE, (0.4, None)]):
        point = proposal(place / 10)
        number = begin(ledger, replace(point, digest=f"screened{place}"))
        ledger.record(number, 1, screened, {})
        row = ledger.close(number, Outcome.SCREENED, cause="", metrics={}, epochs=1, seconds=1.0)
        assert (row.outcome, row.metric("objective")) == (Outcome.SCREENED, screened)
        assert not row.ranks("objective")
        if final is not None:
            number = begin(ledger, point)
            ledger.record(number, 2, 1.0 - final, {})  # no rung: it says the opposite
            finish(ledger, number, final)
    rho, n_finished = ledger.trials().rung_correlation()
    assert (round(rho, 9), n_finished) == (0.5, 3)
    states = [trial.state for trial in stored(url)]
    assert states == [TrialState.PRUNED, TrialState.COMPLETE] * 3 + [TrialState.PRUNED]


def test_rungs_begin_at_a_third_of_the_epochs() -> None:
    asked = ((1, 3), (6, 2), (7, 2), (27, 3))
    assert [rungs(epochs, factor) for epochs, factor in asked] == [[1], [2, 4], [3, 6], [9]]


def test_an_interrupted_trial_counts_once_in_its_rung(url: str) -> None:
    first = open_ledger(url, reduction_factor=2)
    good = begin(first, proposal(0.1, protected=True))
    first.record(good, 2, 0.3, {})
    finish(first, good, 0.3)
    first.record(begin(first, proposal(0.2, protected=True)), 2, 0.1, {})

    second = open_ledger(url, reduction_factor=2)
    assert len(second.reconcile()) == 1
    begin(second, replace(proposal(0.2, protected=True), attempt=2))
    assert stored(url)[2].intermediate_values == {2: 0.1}
    # Of 0.3, 0.2 and 0.1 one is kept; with 0.1 counted twice, two would be.
    assert second.record(begin(second, proposal(0.3)), 2, 0.2, {})


def test_a_withdrawn_trial_is_owed_and_counts_no_more(url: str) -> None:
    ledger = open_ledger(url, reduction_factor=2)
    for dropout, value in ((0.1, 0.9), (0.2, 0.8)):
        number = begin(ledger, proposal(dropout, protected=True))
        ledger.record(number, 2, value, {})
        finish(ledger, number, value)
    ledger.note("exhausted", True)
    why = "predictions.npz is missing"
    ledger.withdraw(0, why)

    again = open_ledger(url, reduction_factor=2)
    (owed,) = again.reconcile()
    assert (owed.number, again.trials().why_owed(again.trials().owed[0])) == (0, why)
    assert list(scores(again)) == [1]
    assert again.noted("exhausted") is False
    # Of 0.85 and 0.8 one is kept; with the withdrawn 0.9 it would be that.
    assert not again.record(begin(again, proposal(0.4)), 2, 0.85, {})

    number = begin(again, replace(proposal(0.1, protected=True), attempt=2))
    finish(again, number, 0.9)
    attrs = optuna.load_study(study_name="s", storage=url).user_attrs
    marks = {name: value for name, value in attrs.items() if ":" in name}
    assert marks == {"withdrawn:0": why, "superseded:0": number}
    assert scores(again) == {1: 0.8, number: 0.9}


def test_an_epoch_is_read_back_as_it_was_first(url: str) -> None:
    ledger, point = open_ledger(url), proposal(0.1)
    first = begin(ledger, point)
    ledger.begin(first)
    ledger.record(first, 1, 0.1 + 0.2, {"val_auprc_sv": 0.1 + 0.2, "val_auprc_F": math.nan})
    ledger.record(first, 1, 0.9, {"val_auprc_sv": 0.9})
    ledger.close(first, Outcome.STOPPED, cause="why", metrics={}, epochs=1, seconds=2.0)
    second = begin(ledger, replace(point, attempt=2))
    ledger.begin(second)
    for epoch in (1, 2):
        ledger.record(second, epoch, epoch / 10, {"val_auprc_sv": epoch / 10, "loss": math.inf})
    attrs = [trial.user_attrs for trial in stored(url)]
    epochs = epochs_of(attrs)
    assert list(epochs) == [1, 2]
    assert ledger.trials().curves == {second: {1: 0.1 + 0.2, 2: 0.2}}
    assert epochs[1].metrics["val_auprc_sv"] == 0.1 + 0.2, "to the last bit"
    assert math.isnan(epochs[1].metrics["val_auprc_F"])
    assert math.isnan(epochs[2].metrics["loss"])
    assert attrs[0][BEGAN] <= epochs[1].at_s <= attrs[1][BEGAN] <= epochs[2].at_s


def test_an_epoch_is_one_transaction(url: str) -> None:
    ledger, commits = open_ledger(url), list[object]()
    trial, count = begin(ledger, proposal(0.1)), commits.append
    event.listen(Engine, "commit", count)
    ledger.record(trial, 1, 0.5, {f"metric_{i}": float(i) for i in range(90)})
    event.remove(Engine, "commit", count)
    assert len(commits) == 1
