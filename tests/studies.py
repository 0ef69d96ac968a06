"""Whole studies in a workspace of their own, and an audit of what they leave in all records."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from study.files import archive_fault
from study.keys import BEATS_PER_SECOND, EXPERIMENTS, TRAIN_LOSS, Outcome, Tag
from study.store.trial_files import PREDICTIONS, SCORES
from study.tracking.names import metric_shown
from study.tuning.trial import CHECKPOINT, WEIGHTS
from tests.builders import RATES, Curves, mlflow_client, mlflow_curves, mlflow_runs, space_toml
from tests.command import Ended, here
from tests.engine import trained_here

EPOCHS = 3


def _space(params: Mapping[str, Any], epochs: int, **settings: Any) -> str:
    fixed = {"fusion": "film", "embed_dim": 8, "batch_size": 32, "schedule": "cosine"}
    more = {"normal_beats_per_epoch": 100, "epochs": epochs}
    return space_toml(params, fixed={**fixed, **more}, settings={"folds": 2, **settings})


SPACES = {
    # A trial that learns, and others of which some are stopped early
    "fast": _space(
        {"learning_rate": [0.003, 1e-8, 0.001, 1e-7]}, EPOCHS, sampler="grid", reduction_factor=2
    ),
    # Trials that last until something happens to them
    "long": _space({"learning_rate": [0.003, 0.001]}, 8, sampler="grid", scheduler="none"),
    # The same of a sampler that draws
    "random": _space(RATES, 8, sampler="random", trials=3, scheduler="none"),
}
"""Text by the name of the space."""

WORKER = "ray::ResourceTrainable"

STATUS = {
    Outcome.COMPLETE: "FINISHED",
    Outcome.SCREENED: "FINISHED",
    Outcome.PRUNED: "KILLED",
    Outcome.FAILED: "FAILED",
}

COMMAND = (sys.executable, "-m", "study.run")

LIMIT_S = 120.0

EVENTS = """
select (select count(*) from study_user_attributes where key like 'start:%')
+ (select count(*) from trial_user_attributes
   where key in ('began', 'outcome') or key like 'epoch:%')
"""


def processes() -> list[tuple[int, int, str]]:
    """Return number, parent and command line of every process."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    return [(int(pid), int(parent), words) for pid, parent, words in rows]


def hear_signals() -> None:
    """Undo what `nohup` and `&` make a process ignore, and its children after it."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


class Start:
    """The command line while it runs."""

    def __init__(
        self, words: Sequence[str], folder: Path, log: Path, program: Sequence[str]
    ) -> None:
        self.began = time.monotonic()
        self._files = [Path(f"{log}.{what}") for what in ("out", "err")]
        with self._files[0].open("w") as out, self._files[1].open("w") as err:
            self.process = subprocess.Popen(
                [*program, *words],
                cwd=folder,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=hear_signals,
            )

    def said(self) -> str:
        return self._files[1].read_text()

    def wait_for(self, happened: Callable[[], bool], event: str) -> None:
        """Wait until something has happened, while the command runs."""
        deadline = time.monotonic() + LIMIT_S
        while not happened():
            assert self.process.poll() is None, f"ended before {event}:\n{self.said()}"
            assert time.monotonic() < deadline, f"{event}: not within {LIMIT_S} s:\n{self.said()}"
            time.sleep(0.02)

    def ended(self, within_s: float = LIMIT_S) -> Ended:
        try:
            code = self.process.wait(within_s)
        except BaseException:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise
        return Ended(code, *(file.read_text() for file in self._files))

    def workers(self) -> list[int]:
        """Return the processes in which trials train, those of this start."""
        return self.below(lambda words: words.startswith(WORKER))

    def below(self, sought: Callable[[str], bool]) -> list[int]:
        """Return the processes that this start has begun whose command line is sought."""
        above, below = {self.process.pid}, list[int]()
        rows = processes()
        for _ in range(3):  # driver, raylet, worker
            children = [(pid, words) for pid, parent, words in rows if parent in above]
            below += [pid for pid, words in children if sought(words)]
            above = {pid for pid, _ in children}
        return below


@dataclass(frozen=True, slots=True)
class Studies:
    """A folder with records, in which studies run and are hurt."""

    folder: Path
    scratch: Path  # where everything temporary goes
    tracker: str = ""  # where MLflow is; empty is the workspace's own database
    experiment: str = EXPERIMENTS["records"]
    program: Sequence[str] = COMMAND
    own_floors: bool = False  # whether each study fits its floors, which takes three seconds

    def start(self, space: str, name: str, *more: str) -> Start:
        """Start the command line as a user does."""
        fitted = next(self.folder.glob("studies/*/floors/logistic_regression/scores.json"), None)
        if fitted and not self.own_floors and not self.study(name).exists():
            shutil.copytree(fitted.parents[1], self.study(name) / "floors")
        n_before = len(list(self.folder.glob(f"{name}.*.err")))
        log = self.folder / f"{name}.{n_before}"
        return Start(self.words(space, name, *more), self.folder, log, self.program)

    def words(self, space: str, name: str, *more: str) -> list[str]:
        # Each study would measure which precision is faster; curves are compared to the last bit.
        words = ["--space", f"{space}.toml", "--name", name, "--device", "cpu"]
        words += ["--precision", "fp32"]
        words += ["--records", "records", "--split", "split.toml", "--concurrency", "1", *more]
        if self.tracker:
            words += ["--tracking-uri", self.tracker]
        return words

    def run(self, space: str, name: str, *more: str) -> Ended:
        return self.start(space, name, *more).ended()

    def with_checkpoint(self, name: str) -> Start:
        """Start a study of two long trials, the first of which has a checkpoint by now."""
        start = self.start("long", name)
        start.wait_for(lambda: bool(self.checkpoints(name)), "a checkpoint")
        return start

    def goes_on(self, name: str) -> None:
        """Resume such a study from its checkpoint; all its records must agree at its end."""
        ended = self.run("long", name, "--resume")
        assert ended.code == 0, ended
        assert "continued after epoch" in ended.err
        assert list(self.audit(name).values()) == [Outcome.COMPLETE] * 2
        assert self.left() == [], "a start deletes what the one before left"

    def here(self, space: str, name: str, *more: str) -> Ended:
        """Run it in this process, without Ray; also what is refused or has nothing to run."""
        return trained_here(self.folder, self.words(space, name, *more))

    def study(self, name: str) -> Path:
        return self.folder / "studies" / name

    def files(self, name: str, file: str) -> list[Path]:
        return sorted((self.study(name) / "trials").glob(f"*/{file}"))

    def events(self, name: str) -> int:
        """Return how many starts, begun trials, epochs and ends a study has written down."""
        url = f"{(self.study(name) / 'study.db').as_uri()}?mode=ro"
        try:
            with closing(sqlite3.connect(url, uri=True, timeout=5)) as connection:
                return int(connection.execute(EVENTS).fetchone()[0])
        except sqlite3.OperationalError:  # it, or its tables, are not made yet
            return 0

    def trials(self, name: str) -> list[optuna.trial.FrozenTrial]:
        url = f"sqlite:///{self.study(name) / 'study.db'}"
        study = optuna.load_study(study_name=name, storage=url)
        assert study.metric_names in (["val_auprc_sv"], ["train_loss"]), "what a dashboard shows"
        return list(study.trials)

    def checkpoints(self, name: str) -> list[Path]:
        return self.files(name, CHECKPOINT)

    def outcomes(self, name: str) -> dict[str, str]:
        """Return the outcome by digest; one that is counted twice is told."""
        attrs = [trial.user_attrs for trial in self.trials(name)]
        settled = [a for a in attrs if a.get(Tag.OUTCOME) not in (None, Outcome.STOPPED)]
        twice = [d for d, n in Counter(a[Tag.DIGEST] for a in settled).items() if n > 1]
        assert not twice, f"counted more than once: {twice}"
        return {a[Tag.DIGEST]: a[Tag.OUTCOME] for a in settled}

    def runs(self, name: str, kind: str) -> list[Any]:
        terms = f"tags.study = '{name}' and tags.kind = '{kind}'"
        return mlflow_runs(self.mlflow, self.experiment, terms)

    @property
    def mlflow(self) -> Any:
        return mlflow_client(self.folder, self.tracker)

    def curves(self, name: str) -> dict[str, Curves]:
        """Return all points that MLflow has, by digest and by name of the metric."""
        curves = dict[str, Curves]()
        for run in self.runs(name, "trial"):
            digest = run.data.tags[Tag.DIGEST]
            assert digest not in curves, f"two runs of {digest}"
            curves[digest] = mlflow_curves(self.mlflow, run)
        return curves

    def assert_same_curves(self, name: str, other: str) -> None:
        """Compare all that MLflow has of two studies' trials to the last bit."""
        curves, wanted = self.curves(name), self.curves(other)
        assert curves.keys() == wanted.keys()
        for digest, metrics in curves.items():
            for metric in metrics.keys() - {metric_shown(BEATS_PER_SECOND)}:
                # As text: NaN is not equal to itself.
                assert repr(metrics[metric]) == repr(wanted[digest][metric]), f"{digest} {metric}"

    def audit(self, name: str) -> dict[str, str]:
        """Check that all records of a finished study agree, exactly once; return the outcomes."""
        trials, outcomes = self.trials(name), self.outcomes(name)
        assert all(trial.state.is_finished() for trial in trials)
        owing = {t.user_attrs.get(Tag.DIGEST) for t in trials} - outcomes.keys() - {None}
        assert not owing, f"never settled: {owing}"

        (parent,) = self.runs(name, "study")
        assert parent.info.status == "FINISHED"
        statuses = {r.data.tags[Tag.DIGEST]: r.info.status for r in self.runs(name, "trial")}
        assert statuses == {digest: STATUS[Outcome(o)] for digest, o in outcomes.items()}
        for digest, metrics in self.curves(name).items():
            for metric, points in metrics.items():
                steps = [step for step, _ in points]
                assert len(set(steps)) == len(steps), f"{digest} {metric}: steps {steps}"
            epochs = len(metrics["val_auprc_sv"])
            assert [step for step, _ in metrics["val_auprc_sv"]] == list(range(1, epochs + 1))
            for metric in (metric_shown(TRAIN_LOSS), "val_auprc_macro"):
                assert len(metrics[metric]) == epochs, f"{digest}: {metric}"

        complete = sorted(d for d, outcome in outcomes.items() if outcome == Outcome.COMPLETE)
        for file in (PREDICTIONS, WEIGHTS, SCORES):
            paths = self.files(name, file)
            assert [path.parent.name for path in paths] == complete, file
            if file != SCORES:
                assert {archive_fault(path.read_bytes()) for path in paths} <= {""}
        assert self.checkpoints(name) == []
        assert list(self.study(name).rglob("*.part*")) == []
        status = self.status(name)
        assert status.code == 0, status
        return outcomes

    def status(self, name: str) -> Ended:
        tracker = ("--tracking-uri", self.tracker) if self.tracker else ()
        return here(self.folder, ("--status", name, *tracker))

    def left(self) -> list[str]:
        """Return what is left where temporary files go, and what still runs there."""
        running = [words for _, _, words in processes() if str(self.scratch) in words]
        return [path.name for path in self.scratch.iterdir() if "study" in path.name] + running
