"""Whole studies under a real Ray: one search, one comparison, one that is interrupted."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import ray

from study.data.fetch import files_of, sha256_of
from study.data.records import DS1, DS2
from study.data.source import Source
from study.data.synthetic import write_records
from study.keys import Outcome, Tag
from study.store.folder import BEATS, SPACE_COPY
from study.store.trial_files import PREDICTIONS
from study.tuning.ray_session import leave_ray
from study.tuning.ray_tune import LostWorker, StopSignal, catching_signals
from study.tuning.trial import CHECKPOINT, WEIGHTS
from tests.builders import write_split
from tests.command import Ended, apart, here
from tests.surroundings import own_surroundings

FIXED = """
[fixed]
fusion = "film"
embed_dim = 8
batch_size = 32
schedule = "cosine"
"""

SEARCH = (
    """
description = "one that learns and two that do not"
[search]
sampler = "grid"
trials = 3
reduction_factor = 2
folds = 2
"""
    + FIXED
    + """
epochs = 3
normal_beats_per_epoch = 150
[params.learning_rate]
values = [0.003, 1e-8, 1e-7]
"""
)

LONG_EPOCHS = 12
LONG = (
    """
description = "long enough to be interrupted"
[search]
sampler = "random"
trials = 3
scheduler = "none"
folds = 2
"""
    + FIXED
    + f"""
epochs = {LONG_EPOCHS}
normal_beats_per_epoch = 100
[params.learning_rate]
low = 1e-4
high = 1e-2
log = true
"""
)

COMPARE = """
description = "two arms and a placebo"
[compare]
draws = 1
folds = 2
reference = "concat"
contrasts = [["film", "film_placebo"]]
[fixed]
embed_dim = 8
epochs = 1
normal_beats_per_epoch = 40
[[arms]]
name = "film"
fusion = "film"
placebo = true
[[arms]]
name = "concat"
fusion = "concat"
[params.learning_rate]
low = 1e-3
high = 1e-2
log = true
"""

SCREENING = """
description = "two arms, screened by two slots"
[search]
sampler = "grid"
trials = 3
scheduler = "screening"
folds = 2
[fixed]
embed_dim = 8
batch_size = 32
epochs = 2
normal_beats_per_epoch = 40
[params.fusion]
values = ["film", "concat_proj"]
[params.learning_rate]
values = [0.003, 1e-8]
"""

SLOWEST_STOP_S = 20.0

STATUS = {
    Outcome.COMPLETE: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.SCREENED: "FINISHED",
    Outcome.STOPPED: "KILLED",
    Outcome.FAILED: "FAILED",
}


WORKER = "ray::ResourceTrainable"


def processes() -> list[tuple[int, int, str]]:
    """Return id, parent and command line of all processes."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return [(int(row[0]), int(row[1]), " ".join(row[2:])) for row in rows]


def descendants() -> dict[int, str]:
    """Return the command lines of all processes below this one, by id."""
    listed, found = processes(), dict[int, str]()
    generation = {os.getpid()}
    while generation:
        children = {pid: words for pid, parent, words in listed if parent in generation}
        found |= children
        generation = set(children)
    return found


@dataclass
class Workspace:
    """A folder with records, in which studies run; it can be looked into as a user would."""

    folder: Path
    scratch: Path

    def arguments(self, name: str, *more: str) -> list[str]:
        given = ["--space", f"{name}.toml", "--records", "records", "--split", "split.toml"]
        return [*given, "--concurrency", "1", "--device", "cpu", *more]

    def main(self, name: str, *more: str) -> Ended:
        """Run a study as a user does."""
        return apart(self.folder, self.arguments(name, *more))

    def again(self, name: str, *more: str) -> Ended:
        """Start a study that has nothing to run, or is refused."""
        return here(self.folder, self.arguments(name, *more))

    def trials(self, name: str) -> list[optuna.trial.FrozenTrial]:
        url = f"sqlite:///{self.folder / 'studies' / name / 'study.db'}"
        return optuna.load_study(study_name=name, storage=url).trials

    def counted(self, name: str) -> dict[str, str]:
        """Return the outcome by digest; one that is counted twice is told."""
        attrs = [trial.user_attrs for trial in self.trials(name)]
        settled = [a for a in attrs if a.get(Tag.OUTCOME) not in (None, Outcome.STOPPED)]
        twice = [d for d, n in Counter(a[Tag.DIGEST] for a in settled).items() if n > 1]
        assert not twice, f"counted more than once: {twice}"
        return {a[Tag.DIGEST]: a[Tag.OUTCOME] for a in settled}

    def runs(self, name: str, kind: str = "trial") -> list[Any]:
        """Return MLflow's runs of a study."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("ecg-rr-fusion-own-records")
        terms = f"tags.study = '{name}' and tags.kind = '{kind}'"
        return list(client.search_runs([experiment.experiment_id], filter_string=terms))

    def history(self, run_id: str, name: str) -> list[int]:
        """Return the steps of a metric in MLflow."""
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{self.folder / 'mlflow.db'}")
        return sorted(point.step for point in client.get_metric_history(run_id, name))

    def leftovers(self) -> list[str]:
        """Return what Ray and the study left in the temporary folder, or still run there."""
        folders = [path.name for path in self.scratch.iterdir()]
        running = [words for _, _, words in processes() if str(self.scratch) in words]
        return [name for name in folders if "ray" in name or "study" in name] + running

    def files(self, name: str, file: str) -> list[Path]:
        return sorted((self.folder / "studies" / name / "trials").glob(f"*/{file}"))


@pytest.fixture(scope="module")
def workspace(
    small_source: Source, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("workspace")
    (folder / "records").symlink_to(small_source.folder)
    write_split(folder, small_source.development)
    spaces = {"search": SEARCH, "long": LONG, "compare": COMPARE, "screening": SCREENING}
    for name, text in spaces.items():
        (folder / f"{name}.toml").write_text(text)
    with own_surroundings() as scratch:
        yield Workspace(folder, scratch)


@pytest.fixture(scope="module")
def searched(workspace: Workspace) -> Ended:
    return workspace.main("search")


def test_a_search_ends_with_a_table_and_exit_code_0(searched: Ended) -> None:
    assert searched.code == 0, searched
    assert searched.out.startswith("Candidates by arm. Mean ± sd over the complete trials")
    assert "opt1 / daeac / film / seed7 / real" in searched.out
    assert "look further: MLflow: run `mlflow ui`" in searched.out
    assert "orchestration: " in searched.out
    assert "\nAlarms:\n" in searched.out
    assert "note: whether early stopping was right cannot be told: finished trials: 1" in (
        searched.out
    )
    assert "trial   0 complete val_auprc_sv ." in searched.err


def test_a_search_ends_with_its_floors(searched: Ended, workspace: Workspace) -> None:
    floors = ("logistic_regression", "prevalence")
    stored = (workspace.folder / "studies" / "search" / "floors").glob("*/predictions.npz")
    assert sorted(path.parent.name for path in stored) == sorted(floors)
    assert "logistic regression" in searched.out
    assert "floor: prevalence" not in searched.out, "the table has it as the level of chance"
    runs = {r.data.params["floor"]: r for r in workspace.runs("search", "floor")}
    (parent,) = workspace.runs("search", "study")
    assert sorted(runs) == sorted(floors)
    for r in runs.values():
        assert (r.info.status, r.data.tags[Tag.OUTCOME]) == ("FINISHED", Outcome.COMPLETE)
        assert r.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert 0 < runs["prevalence"].data.metrics["val_auprc_sv"]
    assert runs["prevalence"].data.metrics["val_auroc_sv"] == 0.5


def test_optuna_and_mlflow_agree_on_every_outcome(searched: Ended, workspace: Workspace) -> None:
    counted = workspace.counted("search")
    assert list(counted.values()) == [Outcome.COMPLETE, Outcome.PRUNED, Outcome.PRUNED]
    states = [trial.state.name for trial in workspace.trials("search")]
    assert states == ["COMPLETE", "PRUNED", "PRUNED"]
    recorded = [
        (r.data.tags[Tag.DIGEST], r.data.tags[Tag.OUTCOME], r.info.status)
        for r in workspace.runs("search")
    ]
    assert sorted(recorded) == sorted((d, o, STATUS[Outcome(o)]) for d, o in counted.items())
    (parent,) = workspace.runs("search", "study")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["trials_pruned"] == 2


def test_optuna_and_mlflow_agree_on_the_score(searched: Ended, workspace: Workspace) -> None:
    (finished,) = [r for r in workspace.runs("search") if r.info.status == "FINISHED"]
    first = workspace.trials("search")[0]
    assert first.value == finished.data.metrics["val_auprc_sv"]
    assert workspace.history(finished.info.run_id, "val_auprc_sv") == [1, 2, 3]


def test_a_finished_trial_has_its_files_and_a_pruned_one_its_checkpoint_at_most(
    searched: Ended, workspace: Workspace
) -> None:
    digest = workspace.trials("search")[0].user_attrs[Tag.DIGEST]
    for name in (PREDICTIONS, WEIGHTS):
        assert [path.parent.name for path in workspace.files("search", name)] == [digest]
    assert digest not in [path.parent.name for path in workspace.files("search", CHECKPOINT)]


def test_nothing_of_ray_is_left(searched: Ended, workspace: Workspace) -> None:
    assert workspace.leftovers() == []
    assert [words for words in descendants().values() if "ray" in words] == []


def test_the_same_command_again_prints_the_table_and_runs_nothing(
    searched: Ended, workspace: Workspace
) -> None:
    before = workspace.trials("search")
    again = workspace.again("search")
    assert again.code == 0
    assert again.err == ""
    said, *lines = again.out.splitlines()
    assert said == "study 'search' was complete already: nothing was run"
    assert lines[:5] == searched.out.splitlines()[:5]
    assert workspace.trials("search") == before


def test_the_same_command_again_brings_back_what_every_start_writes(
    searched: Ended, workspace: Workspace
) -> None:
    files = [workspace.folder / "studies" / "search" / name for name in (SPACE_COPY, BEATS)]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    status = here(workspace.folder, ["--status", "search"])
    said = status.out
    assert status.code == 1
    again = "the study's own command with --resume writes it again"
    assert f"  {SPACE_COPY} is missing; {again}\n" in said
    assert f"  {BEATS}, which all predictions refer to, is missing; {again}\n" in said
    assert "--repair" not in said, "nothing of it is repaired by that"
    assert workspace.again("search", "--resume").code == 0
    assert [file.read_bytes() for file in files] == before


def test_results_that_are_lost_are_named_when_the_study_is_shown_again(
    searched: Ended, workspace: Workspace
) -> None:
    (weights,) = workspace.files("search", WEIGHTS)
    aside = weights.rename(weights.with_suffix(".aside"))
    try:
        again = workspace.again("search")
    finally:
        aside.rename(weights)
    assert again.code == 0
    assert (
        "results are missing (trial 0: weights.pt is missing); `--status search` says more, and "
        "after `--repair search` these trials are run again"
    ) in again.err


def test_another_mlflow_is_told_a_finished_study_from_its_beginning(
    searched: Ended, workspace: Workspace
) -> None:
    again = workspace.again("search", "--tracking-uri", "sqlite:///other.db")
    assert again.code == 0, again
    assert "tracking: mlflow.db has the study so far; sqlite:///" in again.err
    assert re.search(r"tracking: MLflow has now what it lacked of \d+ runs", again.out)
    back = workspace.again("search")
    assert back.code == 0, back
    assert {r.info.status for r in workspace.runs("search")} == {"FINISHED", "KILLED"}


def test_a_study_whose_storage_is_lost_is_not_begun_again(
    searched: Ended, workspace: Workspace
) -> None:
    elsewhere = ("--study-storage", "sqlite:///elsewhere.db")
    refused = workspace.again("search", "--resume", *elsewhere)
    assert refused.code == 2, refused
    assert "elsewhere.db does not exist; give --study-storage as the study was" in refused.err
    assert "Traceback" not in refused.err
    assert not (workspace.folder / "elsewhere.db").exists()


def test_another_plan_under_that_name_is_refused_with_the_difference(
    searched: Ended, workspace: Workspace
) -> None:
    refused = workspace.again("search", "--seed", "1")
    assert refused.code == 2
    assert "study 'search' exists with another plan:" in refused.err
    assert "  - study_seed (--seed): was 0, now 1\n" in refused.err


def test_a_screening_trains_the_best_of_each_arm_in_full_and_all_records_agree(
    workspace: Workspace,
) -> None:
    ended = workspace.main("screening", "--concurrency", "2")
    assert ended.code == 0, ended
    assert "screened val_auprc_sv ." in ended.err
    assert "[1/5, none in full yet, " in ended.err
    assert (
        "note: screening: 3 configurations, each for 1 epoch; then the best of each of"
        in ended.err
    )
    assert "3 configurations screened; the best of each arm is trained in full" in ended.err
    assert " screened " in ended.out
    assert "note: whether the screening chose the best configuration of an arm" in ended.out
    counted = workspace.counted("screening")
    assert list(counted.values()) == [Outcome.SCREENED] * 3 + [Outcome.COMPLETE] * 2
    recorded = [
        (r.data.tags[Tag.DIGEST], r.data.tags[Tag.OUTCOME], r.info.status)
        for r in workspace.runs("screening")
    ]
    assert sorted(recorded) == sorted((d, o, STATUS[Outcome(o)]) for d, o in counted.items())
    in_full = [digest for digest, outcome in counted.items() if outcome == Outcome.COMPLETE]
    for name in (PREDICTIONS, WEIGHTS):
        found = [path.parent.name for path in workspace.files("screening", name)]
        assert sorted(found) == sorted(in_full)
    assert workspace.files("screening", CHECKPOINT) == []
    status = here(workspace.folder, ["--status", "screening"])
    assert status.code == 0, status
    assert "trials: 2 complete, 3 screened, 0 failed, 0 running, 0 owed, 0 not" in status.out
    again = workspace.again("screening", "--concurrency", "2")
    assert "study 'screening' was complete already: nothing was run" in again.out


def test_a_comparison_runs_every_arm_and_its_placebo(workspace: Workspace) -> None:
    ended = workspace.main("compare")
    assert ended.code == 0, ended
    assert ended.out.startswith("What each class rests on. ")
    assert "film - its placebo" in ended.out and "/trials.csv, pairs.csv, records.csv" in ended.out
    assert (
        workspace.again("compare")
        .out.split("look further")[0]
        .endswith(ended.out.split("look further")[0])
    ), "asked again, a finished comparison says the same"
    digest = workspace.trials("compare")[0].user_attrs[Tag.DIGEST]
    (workspace.folder / "studies/compare/trials" / digest / "predictions.npz").unlink()
    without = workspace.again("compare")
    assert without.code == 0
    assert "note: the arms are not compared: trial 0, film: " in without.out
    assert "\nArms by score. Mean ± sd over the draws of each arm" in without.out
    counted = workspace.counted("compare")
    assert list(counted.values()) == [Outcome.COMPLETE] * 3
    runs = workspace.runs("compare")
    assert sorted(r.data.tags[Tag.ARM] for r in runs) == ["concat", "film", "film_placebo"]
    assert {r.info.status for r in runs} == {"FINISHED"}
    rates = {r.data.params["learning_rate"] for r in runs}
    assert len(rates) == 1, "all arms run at the same draw"


def test_a_failing_trial_gives_exit_code_1_and_shows_its_cause(workspace: Workspace) -> None:
    limits = ("--trials", "1", "--epochs", "100", "--trial-time-limit", "8s")
    ended = workspace.main("long", "--name", "slow", *limits, "--no-track", "--quiet")
    assert ended.code == 1, ended
    assert "Failed trials. 1 of 1 trial failed" in ended.out
    assert re.search(r"  exceeded --trial-time-limit at epoch \d+\n", ended.out)
    assert "look further: tracking: off" in ended.out
    assert ended.err == ""
    assert workspace.trials("slow")[0].state.name == "FAIL"
    assert workspace.runs("slow") == []
    told = workspace.again("long", "--name", "slow", *limits)
    assert told.code == 1, told
    assert [r.info.status for r in workspace.runs("slow")] == ["FAILED"]
    assert [r.info.status for r in workspace.runs("slow", "study")] == ["FINISHED"]
    again = workspace.again("long", "--name", "slow", *limits)
    assert again.out.startswith("study 'slow' was complete already: nothing was run\n")


def test_a_time_limit_ends_with_3_and_the_study_can_be_resumed(workspace: Workspace) -> None:
    ended = workspace.main("search", "--name", "late", "--time-limit", "0.1s", "--no-track")
    assert ended.code == 3, ended
    assert (
        "stopped: the study's --time-limit was reached; 0 of 3 trials settled. "
        "The same command with --resume continues.\n"
    ) in ended.out
    assert {t.user_attrs[Tag.OUTCOME] for t in workspace.trials("late")} <= {Outcome.STOPPED}


KILLED = "The actor died unexpectedly.\n\tpid: 7\nIts worker process has died."
RAISED = "\x1b[36mray::ResourceTrainable.train()\x1b[39m (pid=7)\n  File ...\nMemoryError: no more"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (KILLED, "The actor died unexpectedly. Its worker process has died."),
        (RAISED, "MemoryError: no more"),
        ("one line", "one line"),
        ("", "without a word, as when memory runs out"),
    ],
    ids=["killed", "raised", "one line", "nothing"],
)
def test_the_cause_of_a_lost_worker_is_its_first_and_last_line(said: str, reason: str) -> None:
    loss = LostWorker(said)
    assert not loss.faulty
    assert loss.text() == f"its worker was lost: {reason}"
    assert loss.text(3) == f"its worker was lost 3 times: {reason}"


def test_a_disk_that_failed_a_worker_is_told_apart() -> None:
    loss = LostWorker(
        "ray::train()\n  File ...\nstudy.errors.DiskError: /x: cannot be written (full)"
    )
    assert loss.faulty
    assert loss.text(3) == "/x: cannot be written (full)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_stops_in_order_and_a_second_ends_at_once(number: signal.Signals) -> None:
    signal.signal(number, signal.default_int_handler)  # CI may run where it is ignored
    stop, before = StopSignal(), signal.getsignal(number)
    with catching_signals(stop):
        signal.raise_signal(number)
        assert (stop.cause, stop.interrupted) == (f"{number.name} received", True)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopSignal()
        with catching_signals(stop):
            signal.raise_signal(signal.SIGHUP)
        assert not stop.cause
    finally:
        signal.signal(signal.SIGHUP, before)


def test_nothing_is_collected_while_ray_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    collecting = []
    monkeypatch.setattr(ray, "shutdown", lambda: collecting.append(gc.isenabled()))
    leave_ray()
    assert collecting == [False]
    assert gc.isenabled()


def signalled(
    workspace: Workspace,
    name: str,
    number: signal.Signals,
    ready: Callable[[str], bool],
    *options: str,
) -> Ended:
    """Run a study in a process group of its own, which gets a signal once it is ready."""
    log = workspace.folder / f"{number.name}.err"
    with log.open("w") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "study.run", *workspace.arguments(name, *options)],
            cwd=workspace.folder,
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            start_new_session=True,
        )
        try:
            wait_for(
                lambda: ready(log.read_text()),
                lambda: process.poll() is not None,
                log.read_text,
            )
            if number is signal.SIGINT:
                os.killpg(process.pid, number)  # as a terminal does
            else:
                process.send_signal(number)  # as Slurm, Docker and systemd do
            began = time.monotonic()
            out, _ = process.communicate(timeout=60)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    took = time.monotonic() - began
    assert took < SLOWEST_STOP_S, f"stopping took {took:.0f} s"
    return Ended(process.returncode, out, log.read_text())


@pytest.fixture(scope="module")
def interrupted(workspace: Workspace) -> Ended:
    """A study that gets Ctrl-C in the middle of a trial."""

    def ready(text: str) -> bool:
        # The recorder may not yet have deleted that of the trial that is complete.
        saved = [path.parent for path in workspace.files("long", CHECKPOINT)]
        unfinished = [folder for folder in saved if not (folder / PREDICTIONS).exists()]
        return "trial   0 complete" in text and bool(unfinished)

    return signalled(workspace, "long", signal.SIGINT, ready, "--trials", "2")


def test_sigterm_stops_in_order_although_ray_has_a_handler_for_it(workspace: Workspace) -> None:
    ended = signalled(
        workspace, "long", signal.SIGTERM, lambda text: "started" in text, "--name", "ended"
    )
    assert ended.code == 130, ended
    assert "stopped: SIGTERM received; 0 of " in ended.out
    assert "The same command with --resume continues.\n" in ended.out
    assert "***" not in ended.err
    assert workspace.leftovers() == []
    # The next trial is proposed when the one before has ended, and can learn from it.
    assert len(workspace.trials("ended")) == 1


def test_an_address_where_nothing_listens_is_refused_at_once(workspace: Workspace) -> None:
    began = time.monotonic()
    for address in ("127.0.0.1:1", "nowhere", "host:port"):
        refused = workspace.again("long", "--name", "far", "--address", address)
        assert refused.code == 2
        assert refused.err.startswith(f"error: --address {address}: nothing answers there (")
    assert time.monotonic() - began < 60
    assert not (workspace.folder / "studies" / "far").exists()


def wait_for(
    done: Callable[[], bool],
    over: Callable[[], bool],
    said: Callable[[], str],
    limit_s: float = 90,
) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert not over(), f"it ended first:\n{said()}"
        assert time.monotonic() < deadline, f"not within {limit_s:.0f} s:\n{said()}"
        time.sleep(0.02)


def test_ctrl_c_ends_with_130_and_keeps_what_is_done(
    interrupted: Ended, workspace: Workspace
) -> None:
    assert interrupted.code == 130, interrupted
    assert (
        "stopped: SIGINT received; 1 of 2 trials settled. "
        "The same command with --resume continues.\n"
    ) in interrupted.out
    assert "Traceback" not in interrupted.err
    assert workspace.leftovers() == []
    outcomes = [trial.user_attrs[Tag.OUTCOME] for trial in workspace.trials("long")]
    assert outcomes[0] == Outcome.COMPLETE
    assert outcomes[1:] == [Outcome.STOPPED]
    statuses = Counter(r.info.status for r in workspace.runs("long"))
    assert statuses["FINISHED"] == 1
    assert statuses["RUNNING"] == 0
    (parent,) = workspace.runs("long", "study")
    assert (parent.info.status, parent.data.tags[Tag.OUTCOME]) == ("KILLED", "stopped")


def test_an_interrupted_study_is_not_started_again_by_accident(
    interrupted: Ended, workspace: Workspace
) -> None:
    refused = workspace.again("long", "--trials", "2")
    assert refused.code == 2
    assert refused.err == (
        "error: study 'long' is unfinished (1 of 2 trials settled): "
        "add --resume to continue it, or give another --name\n"
    )


def kill_a_worker(workspace: Workspace, over: threading.Event, killed: list[int]) -> None:
    """Kill the worker once, when it has saved an epoch of this start; keep how nice it was."""
    began = time.time()
    while not over.wait(0.02):
        fresh = [
            path
            for path in workspace.files("long", CHECKPOINT)
            if path.exists() and path.stat().st_mtime > began
        ]
        workers = [pid for pid, words in descendants().items() if words.startswith(WORKER)]
        if fresh and workers:
            killed.append(os.getpriority(os.PRIO_PROCESS, workers[0]))
            os.kill(workers[0], signal.SIGKILL)
            return


@pytest.fixture(scope="module")
def killed() -> list[int]:
    """How nice the worker was that `resumed` kills."""
    return []


@pytest.fixture(scope="module")
def resumed(interrupted: Ended, workspace: Workspace, killed: list[int]) -> Ended:
    """The interrupted study, resumed with one more trial; one of its workers is killed."""
    over = threading.Event()
    thread = threading.Thread(target=kill_a_worker, args=(workspace, over, killed))
    thread.start()
    try:
        ended = workspace.main("long", "--resume")
    finally:
        over.set()
        thread.join()
    assert killed, f"no worker was found to kill\n{ended}"
    return ended


def test_a_resumed_study_is_completed_with_more_trials_where_they_are_asked_for(
    resumed: Ended, workspace: Workspace
) -> None:
    assert resumed.code == 0, resumed
    assert "resuming 'long': 1 of 3 trials settled, 1 interrupted" in resumed.err
    assert " continued after epoch " in resumed.err
    assert "(attempt 2)" in resumed.err
    assert list(workspace.counted("long").values()) == [Outcome.COMPLETE] * 3


def test_a_trial_whose_worker_is_killed_is_tried_again_and_completes(
    resumed: Ended, workspace: Workspace
) -> None:
    assert resumed.err.count("retried  its worker was lost") == 1
    assert "failed" not in resumed.err


def test_trials_are_as_nice_as_the_command(resumed: Ended, killed: list[int]) -> None:
    assert killed == [os.getpriority(os.PRIO_PROCESS, 0)]


def test_a_resumed_study_has_one_run_for_each_configuration_and_each_epoch_once(
    resumed: Ended, workspace: Workspace
) -> None:
    runs = workspace.runs("long")
    assert sorted(r.data.tags[Tag.DIGEST] for r in runs) == sorted(workspace.counted("long"))
    assert {r.info.status for r in runs} == {"FINISHED"}
    for r in runs:
        steps = workspace.history(r.info.run_id, "val_auprc_sv")
        assert steps == list(range(1, LONG_EPOCHS + 1)), r.info.run_name
    (parent,) = workspace.runs("long", "study")
    assert parent.info.status == "FINISHED"
    assert workspace.files("long", CHECKPOINT) == []


def test_a_resumed_random_search_ran_what_it_would_have_run(
    resumed: Ended, workspace: Workspace
) -> None:
    attrs = [trial.user_attrs for trial in workspace.trials("long")]
    by_index = {a["index"]: a[Tag.DIGEST] for a in attrs}
    assert sorted(by_index) == [0, 1, 2]
    assert set(by_index.values()) == workspace.counted("long").keys()


WITHOUT_DS2 = """
import json, sys
from study import run
from study.data import fetch
sums = json.load(open("sums.json"))
fetch.published_checksums = lambda: sums
sys.exit(run.main(sys.argv[1:]))
"""


def test_a_study_of_mitdb_runs_with_the_files_of_ds2_absent(workspace: Workspace) -> None:
    folder = workspace.folder / "mitdb"
    write_records(folder, names=DS1, duration_s=30)
    sums = {file: sha256_of(folder / file) for file in files_of(DS1)}
    (workspace.folder / "sums.json").write_text(json.dumps(sums))
    (workspace.folder / "rhythm.toml").write_text(
        """
description = "one trial without ECG"
[search]
sampler = "grid"
folds = 2
[fixed]
embed_dim = 8
epochs = 1
normal_beats_per_epoch = 50
[params.fusion]
values = ["rr_only"]
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DS2, "--space", "rhythm.toml", "--data-dir", "mitdb"]
        + ["--concurrency", "1", "--device", "cpu", "--no-track"],
        cwd=workspace.folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "opt1 / rr_only / seed7 / real" in done.stdout
    assert "DS2 has been opened 0 times in this workspace." in done.stdout
    plan = json.loads((workspace.folder / "studies/rhythm/plan.json").read_text())
    assert plan["data_source"] == "mitdb"
    beats = np.load(workspace.folder / "studies/rhythm/beats.npz")
    assert sorted(beats["record_names"]) == sorted(DS1)
    names = {path.stem for path in folder.iterdir()}
    assert not names & set(DS2), "nothing put them there"
