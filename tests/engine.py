"""A study in the test's own process, without Ray: its processes take ten seconds a start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from numpy.typing import NDArray

from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.training import floors
from study.tuning import session
from study.tuning.conductor import Conductor
from study.tuning.ray_tune import Guarded, Listener, ProposalSearcher, Stops, StopSignal
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.trial import FusionTrial, TrialJob
from tests.command import Ended, here


def trained_here(folder: Path, words: Sequence[str]) -> Ended:
    """Run a study in a folder to its end, in this process."""
    with in_this_process():
        return here(folder, words)


@contextmanager
def in_this_process() -> Iterator[None]:
    """Let studies of a block train here; all is the command's own but Ray and its workers."""
    with (
        mock.patch.object(session, "ray_session", _no_ray),
        mock.patch.object(session, "run_trials", _run_trials),
        mock.patch.object(floors, "out_of_fold", _out_of_fold),
    ):
        yield


@contextmanager
def _no_ray(demand: Demand, address: str | None, memory_bytes: int) -> Iterator[Resources]:
    yield plan_resources(demand)


def _run_trials(
    conductor: Conductor, job: TrialJob, *_: Any, stop: StopSignal, deadline: Any, **more: Any
) -> None:
    """Do what Ray Tune does with these callbacks, one trial after the other."""
    guarded = Guarded(conductor)
    searcher, listener = ProposalSearcher(guarded), Listener(guarded)
    stops = Stops(guarded, stop, deadline)
    worker = FusionTrial.__new__(FusionTrial)
    worker.setup({}, job=job)
    for number in itertools.count():
        config = None if stops.stop_all() else searcher.suggest(str(number))
        if not isinstance(config, dict):
            break
        trial: Any = SimpleNamespace(trial_id=str(number))
        listener.on_trial_start(number, [], trial)
        worker.reset_config(config)
        done = False
        while not (done or stops.stop_all()):
            trial.last_result = worker.step()
            done = stops(trial.trial_id, trial.last_result) or trial.last_result["done"]
        if done:
            listener.on_trial_complete(number, [], trial)
    conductor.stop(stop.cause or "the driver ended")
    if guarded.error is not None:
        raise guarded.error


_fit_floor, _fitted = floors.out_of_fold, dict[tuple[str, ...], NDArray[Any]]()


def _out_of_fold(name: str, beats: BeatSet, folds: Folds) -> NDArray[Any]:
    """Fit a floor once for all studies of the same beats and folds: it takes three seconds."""
    key = (name, beats.fingerprint, folds.fingerprint)
    if key not in _fitted:
        _fitted[key] = _fit_floor(name, beats, folds)
    return _fitted[key]
