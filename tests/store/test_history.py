"""Epochs and starts, as a study's Optuna storage has them."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest

from study.config import TrialConfig
from study.keys import Outcome
from study.models import rules
from study.store.history import BEGAN, TRACEBACK, epochs_of, starts_of
from study.store.ledger import Ledger
from study.store.trials import Proposal

CONFIG = TrialConfig.from_flat({"fusion": "film", "embed_dim": 8, "epochs": 3})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny", epochs=3)


def attempt(ledger: Ledger, number: int = 1) -> int:
    digest, arm = rules.digest(CONFIG), rules.arm(CONFIG)
    proposal = Proposal(config=CONFIG, digest=digest, arm=arm, params={}, attempt=number)
    opened = ledger.open(ledger.enqueue(proposal), proposal)
    ledger.begin(opened)
    return opened


def stored(tmp_path: Path) -> optuna.Study:
    return optuna.load_study(study_name="tiny", storage=f"sqlite:///{tmp_path / 'study.db'}")


def test_an_epoch_is_read_back_as_it_was_first(ledger: Ledger, tmp_path: Path) -> None:
    trial = attempt(ledger)
    ledger.record(trial, 1, 0.1 + 0.2, {"val_auprc_sv": 0.1 + 0.2, "val_auprc_F": math.nan})
    ledger.record(trial, 1, 0.9, {"val_auprc_sv": 0.9})
    ledger.close(trial, Outcome.STOPPED, cause="Ctrl-C", metrics={}, epochs=1, seconds=2.0)
    second = attempt(ledger, 2)
    for epoch in (1, 2):
        ledger.record(second, epoch, epoch / 10, {"val_auprc_sv": epoch / 10, "loss": math.inf})
    attrs = [trial.user_attrs for trial in stored(tmp_path).trials]
    epochs = epochs_of(attrs)
    assert list(epochs) == [1, 2]
    assert stored(tmp_path).trials[1].intermediate_values == {1: 0.1 + 0.2, 2: 0.2}
    assert epochs[1].metrics["val_auprc_sv"] == 0.1 + 0.2, "to the last bit"
    assert math.isnan(epochs[1].metrics["val_auprc_F"])
    assert math.isnan(epochs[2].metrics["loss"])
    assert attrs[0][BEGAN] <= epochs[1].at_s <= attrs[1][BEGAN] <= epochs[2].at_s


def test_an_epoch_is_one_transaction(ledger: Ledger) -> None:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    commits: list[object] = []

    def count(connection: object) -> None:
        commits.append(connection)

    trial = attempt(ledger)
    event.listen(Engine, "commit", count)
    ledger.record(trial, 1, 0.5, {f"metric_{i}": float(i) for i in range(90)})
    event.remove(Engine, "commit", count)
    assert len(commits) == 1


def test_a_failure_keeps_the_end_of_its_traceback(ledger: Ledger, tmp_path: Path) -> None:
    trial = attempt(ledger)
    told = "x" * 30_000 + "ValueError: bad"
    ledger.close(
        trial, Outcome.FAILED, cause="bad", metrics={}, epochs=0, seconds=1.0, traceback=told
    )
    kept = stored(tmp_path).trials[0].user_attrs[TRACEBACK]
    assert kept == told[-20_000:]


def test_starts_are_kept_in_order_with_how_they_ended(ledger: Ledger, tmp_path: Path) -> None:
    ledger.begin_start({"git_commit": "abc"})
    ledger.end_start(Outcome.STOPPED, {"trials_complete": 1.0, "orchestration_share": math.nan})
    again = Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny", epochs=3)
    again.begin_start({})
    first, second = starts_of(stored(tmp_path).user_attrs)
    assert (first.number, first.about) == (1, {"git_commit": "abc"})
    assert (first.outcome, first.metrics["trials_complete"]) == ("stopped", 1.0)
    assert first.ended_s is not None and first.at_s <= first.ended_s <= second.at_s
    assert (second.number, second.ended_s, second.outcome) == (2, None, "")
    # A repair ends a start that was killed.
    mended = Ledger(storage_url=f"sqlite:///{tmp_path / 'study.db'}", name="tiny", epochs=3)
    mended.end_start(Outcome.STOPPED, {})
    assert starts_of(stored(tmp_path).user_attrs)[1].outcome == "stopped"
