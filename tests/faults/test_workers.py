"""Workers that are killed, hang, or run out of memory: tried again, then failed with the cause."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from study.keys import Outcome, Tag
from study.tuning.ray_tune import MAX_LOST_WORKERS
from tests.studies import Start, Studies

pytestmark = pytest.mark.faults

KILLS = MAX_LOST_WORKERS + 1


@contextmanager
def struck(start: Start, strike: Callable[[int], object], times: int) -> Iterator[list[int]]:
    """Do something to so many workers of a start, each as soon as a trial has it."""
    over, hit = threading.Event(), list[int]()

    def watch() -> None:
        while len(hit) < times and not over.wait(0.05):
            tries = start.said().count("started") + start.said().count("retried")
            for pid in start.workers() if tries > len(hit) else ():
                if pid not in hit:
                    strike(pid)
                    hit.append(pid)
                    break

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield hit
    finally:
        over.set()
        thread.join()


def test_a_trial_whose_worker_is_killed_again_and_again_fails_alone(studies: Studies) -> None:
    name = "killed-workers"
    start = studies.start("long", name)
    with struck(start, lambda pid: os.kill(pid, signal.SIGKILL), KILLS) as hit:
        ended = start.ended()
    assert len(hit) == KILLS, ended
    assert ended.code == 1, ended
    assert ended.err.count("trial   0 retried  its worker was lost") == MAX_LOST_WORKERS
    assert f"its worker was lost {KILLS} times: " in ended.out
    first, second = studies.trials(name)
    assert first.user_attrs[Tag.OUTCOME] == Outcome.FAILED
    assert second.user_attrs[Tag.OUTCOME] == Outcome.COMPLETE
    assert studies.left() == []


def test_a_trial_that_hangs_is_ended_tried_again_and_completes(studies: Studies) -> None:
    name = "hung"
    start = studies.start("long", name, "--trial-time-limit", "15s")
    with struck(start, lambda pid: os.kill(pid, signal.SIGSTOP), 1) as hit:
        ended = start.ended()
    assert len(hit) == 1, ended
    assert ended.code == 0, ended
    assert "retried  an epoch took longer than the whole --trial-time-limit\n" in ended.err
    assert list(studies.audit(name).values()) == [Outcome.COMPLETE] * 2
    assert studies.left() == []


def test_workers_that_ray_ends_because_the_machine_is_full_fail_their_trials(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Ray ends a worker when the machine's memory is fuller than this: it always is.
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "50")
    ended = studies.run("long", "full-machine")
    assert ended.code == 1, ended
    assert f"its worker was lost {KILLS} times: " in ended.out
    assert "memory" in ended.out
    assert set(studies.outcomes("full-machine").values()) == {Outcome.FAILED}
    assert studies.left() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_ray_ended_by_others_costs_no_trial(studies: Studies, number: signal.Signals) -> None:
    """As by `ray stop`, which ends every Ray of a machine."""
    name = f"without-ray-{number.name}"
    start = studies.with_checkpoint(name)
    (raylet,) = start.below(lambda words: "raylet/raylet " in words)
    for pid in (raylet, *start.workers()):
        os.kill(pid, number)
    ended = start.ended()
    # Ray itself may end the driver, with 1 and without a word, before that can look.
    assert ended.code in (1, 2), ended
    if ended.code == 2:
        assert "stopped: Ray's raylet on this machine ended" in ended.out, ended
    assert studies.outcomes(name) == {}, "no trial has failed"
    studies.goes_on(name)
