"""What it takes to bring MLflow up to date with a study that it has nothing of.

  python -m benchmarks.mirror_sync [--trials 300] [--tracking-uri URI]

A study as after an outage of all its time: trials of six epochs with 40 metrics each, a third of
them complete, with predictions of 45,000 beats, the others stopped at the second epoch. It is sent
twice: the second time MLflow has all of it, as at the next start. Without an address MLflow is in
SQLite on this disk. A request is a call of MLflow's client: of a server, one HTTP request, but one
for each file where a run's files are sent.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ledger_growth import OTHER_METRICS
from study.config import TrialConfig
from study.files import pack_arrays
from study.keys import AUPRC_SV, CLASSES, Outcome
from study.models import rules
from study.store.folder import BEATS, SPACE_COPY, TRIALS
from study.store.ledger import Ledger
from study.store.plan import StudyPlan
from study.store.study import Places, Study
from study.store.trial_files import PER_RECORD, PREDICTIONS, SCORES
from study.store.trials import Proposal
from study.tracking.experiment import Experiment
from study.tracking.mirror import Mirror

NAME, EPOCHS, N_BEATS = "synced", 6, 45_000


class Counted:
    """Stands before MLflow's client, and counts what it is asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls = Counter[str]()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls[name] += 1
            return getattr(self._client, name)(*given, **named)

        return call


class CountedExperiment(Experiment):
    """An experiment whose client is counted."""

    counted: Counted | None = None

    def connect(self) -> tuple[Any, str]:
        """Connect once, and put the counter before the client."""
        client, experiment_id = super().connect()
        self.counted = self.counted or Counted(client)
        return self.counted, experiment_id


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=300)
    parser.add_argument("--tracking-uri")
    args = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before; mlflow {version('mlflow')}, optuna "
        f"{version('optuna')}, once\n"
    )
    print(
        "| sync | runs sent | seconds | processor seconds | requests |\n|---|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name)
        ledger, places = make_study(workspace, args.trials)
        plan = study_plan(args.trials)

        def read() -> Study:
            return Study(places=places, plan=plan, held=True, trials=ledger.trials())

        for sync in ("all of it", "again"):
            experiment = CountedExperiment(
                tracking_uri=args.tracking_uri, name="benchmark", workspace=workspace
            )
            experiment.connect()
            began, cpu = time.perf_counter(), time.process_time()
            mirrored = Mirror(experiment, read).finish(600)
            seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
            assert mirrored.left == mirrored.refused == 0, mirrored
            assert experiment.counted is not None
            requests = experiment.counted.calls.total()
            print(f"| {sync} | {mirrored.sent} | {seconds:.1f} | {cpu:.1f} | {requests:,} |")
            print(f"  {dict(experiment.counted.calls)}", flush=True)
        ledger.release()


def study_plan(trials: int) -> StudyPlan:
    """Return the plan of the study."""
    return StudyPlan(
        name=NAME,
        space=NAME,
        space_digest="0" * 12,
        kind="search",
        objective=AUPRC_SV,
        sampler="random",
        scheduler="asha",
        reduction_factor=3,
        trials=trials,
        epochs=EPOCHS,
        folds="5-fold, partition seed 0",
        fold_fingerprint="1" * 12,
        n_folds=5,
        n_seeds=1,
        study_seed=0,
        engine="fp32, not compiled",
        data_source="synthetic",
        data_fingerprints={"daeac/linear": "2" * 12},
    )


def make_study(workspace: Path, trials: int) -> tuple[Ledger, Places]:
    """Write a study down that has ended, and of which nothing was told."""
    places = Places(folder=workspace / "studies" / NAME)
    folder = places.folder
    folder.mkdir(parents=True)
    study_plan(trials).save(folder)
    drawn = np.random.default_rng(0)
    beats = {"label": drawn.integers(0, len(CLASSES), N_BEATS), "record": np.zeros(N_BEATS, int)}
    names = {"record_names": np.asarray(["101"]), "folds_of_record": np.asarray([[0]])}
    names["patient_of_record"] = names["record_names"]
    (folder / BEATS).write_bytes(pack_arrays(beats | names, compressed=False))
    for name in (SPACE_COPY, TRIALS):
        (folder / name).write_text("made up\n")
    logits = drawn.normal(size=(1, N_BEATS, len(CLASSES))).astype(np.float32)
    log_probs = logits - np.logaddexp.reduce(logits, axis=2, keepdims=True)
    predictions = pack_arrays({"log_probs": log_probs}, compressed=False)
    ledger = Ledger(storage_url=places.url, name=NAME, epochs=EPOCHS)
    ledger.begin_start({"device": "cpu"})
    for index in range(trials):
        config = TrialConfig.from_flat({"fusion": "film", "dropout": index / (2 * trials)})
        complete = index % 3 == 0
        run_trial(ledger, config, drawn.random(), EPOCHS if complete else 2)
        if complete:
            files = places.files.folder(rules.digest(config))
            files.write(PREDICTIONS, predictions)
            files.write(PER_RECORD, b"record\n")
            files.write(SCORES, b"{}")
    ledger.end_start(Outcome.COMPLETE, {"trials_complete": float(trials // 3)})
    return ledger, places


def run_trial(ledger: Ledger, config: TrialConfig, value: float, epochs: int) -> None:
    """Write one trial down, as the driver does."""
    proposal = Proposal(
        config=config, digest=rules.digest(config), arm=rules.arm(config), params={}
    )
    number = ledger.open(ledger.enqueue(proposal), proposal)
    ledger.begin(number)
    metrics = dict.fromkeys([AUPRC_SV, *OTHER_METRICS], value)
    for epoch in range(1, epochs + 1):
        ledger.record(number, epoch, value, metrics)
    ledger.close(
        number,
        Outcome.COMPLETE if epochs == EPOCHS else Outcome.PRUNED,
        cause="",
        metrics=metrics,
        epochs=epochs,
        seconds=1.0,
        objective=value,
    )


if __name__ == "__main__":
    main()
