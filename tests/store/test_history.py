"""Epochs and starts, as a study's Optuna storage has them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine

from study.config import TrialConfig
from study.keys import Outcome
from study.store.history import BEGAN, epochs_of
from study.store.ledger import Ledger
from tests.builders import proposal

CONFIG = TrialConfig.from_flat({"fusion": "film", "embed_dim": 8, "epochs": 3})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny", epochs=3)


def attempt(ledger: Ledger, number: int = 1) -> int:
    point = proposal(CONFIG, attempt=number)
    opened = ledger.open(ledger.enqueue(point), point)
    ledger.begin(opened)
    return opened


def test_an_epoch_is_read_back_as_it_was_first(ledger: Ledger) -> None:
    trial = attempt(ledger)
    ledger.record(trial, 1, 0.1 + 0.2, {"val_auprc_sv": 0.1 + 0.2, "val_auprc_F": math.nan})
    ledger.record(trial, 1, 0.9, {"val_auprc_sv": 0.9})
    ledger.close(trial, Outcome.STOPPED, cause="why", metrics={}, epochs=1, seconds=2.0)
    second = attempt(ledger, 2)
    for epoch in (1, 2):
        ledger.record(second, epoch, epoch / 10, {"val_auprc_sv": epoch / 10, "loss": math.inf})
    trials = ledger.trials().all
    attrs = [trial.user_attrs for trial in trials]
    epochs = epochs_of(attrs)
    assert list(epochs) == [1, 2]
    assert trials[1].intermediate_values == {1: 0.1 + 0.2, 2: 0.2}
    assert epochs[1].metrics["val_auprc_sv"] == 0.1 + 0.2, "to the last bit"
    assert math.isnan(epochs[1].metrics["val_auprc_F"])
    assert math.isnan(epochs[2].metrics["loss"])
    assert attrs[0][BEGAN] <= epochs[1].at_s <= attrs[1][BEGAN] <= epochs[2].at_s


def test_an_epoch_is_one_transaction(ledger: Ledger) -> None:
    trial, commits = attempt(ledger), list[object]()
    count = commits.append
    event.listen(Engine, "commit", count)
    ledger.record(trial, 1, 0.5, {f"metric_{i}": float(i) for i in range(90)})
    event.remove(Engine, "commit", count)
    assert len(commits) == 1
