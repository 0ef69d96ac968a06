"""SIGKILL of the driver at any moment: nothing is lost, repeated or left running.

The default suite kills one study three times; `-m faults` kills ten more, three times each, at
moments drawn from fixed seeds.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from study.keys import BEATS_PER_SECOND, Outcome
from tests.faults.studies import Studies

STUDIES = 10
"""Studies that are killed three times each."""

STARTUP_S = 6.0
"""About the time from the command to the first trial."""

ONE_START = 8
"""Events of a trial and a half: one start does no more, so that each of three is killed."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When a driver is killed.

    Args:
        after_s: Seconds after the command; NaN where events count.
        events: Events of this start that are written down before.
        then_s: Seconds to wait after the last of them.
    """

    after_s: float = float("nan")
    events: int = 0
    then_s: float = 0.0


def drawn(seed: int) -> list[Moment]:
    """Draw the three moments of a study: mostly while trials run, some before the first."""
    rng = random.Random(seed)
    moments = []
    for _ in range(3):
        if rng.random() < 0.3:
            moments.append(Moment(after_s=rng.uniform(0.05, STARTUP_S)))
        else:
            moments.append(Moment(events=rng.randint(1, ONE_START), then_s=rng.uniform(0, 0.3)))
    return moments


def kill(studies: Studies, name: str, moment: Moment, *more: str) -> str:
    """Start a study, kill its driver at a moment, and return what it had said."""
    before = studies.events(name)
    start = studies.start("fast", name, *more)
    if moment.events:
        start.wait_for(lambda: studies.events(name) >= before + moment.events, str(moment))
        time.sleep(moment.then_s)
    else:
        time.sleep(max(0.0, moment.after_s - (time.monotonic() - start.began)))
    start.send(signal.SIGKILL)
    ended = start.ended()
    assert ended.code == -signal.SIGKILL, f"it was over before {moment}\n{ended}"
    return ended.err


def resume(studies: Studies, name: str) -> tuple[str, ...]:
    """Return the option that a study which was killed needs: none where it had not begun."""
    return ("--resume",) if (studies.study(name) / "plan.json").exists() else ()


@pytest.fixture(scope="module")
def reference(studies: Studies) -> Callable[[str], None]:
    """A study that nothing happens to; returns what compares another with it."""
    ended = studies.run("fast", "whole")
    assert ended.code == 0, ended
    outcomes, curves = studies.audit("whole"), studies.curves("whole")
    assert set(outcomes.values()) == {Outcome.COMPLETE, Outcome.PRUNED}

    def same(name: str) -> None:
        assert studies.audit(name) == outcomes
        for digest, metrics in studies.curves(name).items():
            for metric in metrics.keys() - {BEATS_PER_SECOND}:
                found, wanted = sorted(metrics[metric]), sorted(curves[digest][metric])
                # To the last bit; NaN is not equal to itself.
                assert repr(found) == repr(wanted), f"{digest} {metric}"

    return same


def test_a_study_killed_at_its_start_in_a_trial_and_at_its_end_is_whole(
    studies: Studies, reference: Callable[[str], None]
) -> None:
    name = "thrice"
    kill(studies, name, Moment(after_s=2.0))
    kill(studies, name, Moment(events=4, then_s=0.05), *resume(studies, name))
    # At its end: every trial is settled, floors and the tracker's last events are not.
    start = studies.start("fast", name, "--resume")
    start.wait_for(lambda: "[4/4" in start.said(), "its last trial")
    start.send(signal.SIGKILL)
    assert start.ended().code == -signal.SIGKILL
    ended = studies.run("fast", name, "--resume")
    assert ended.code == 0, ended
    reference(name)
    assert studies.left() == [], "the next start deletes what a killed one left"


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(STUDIES))
def test_a_study_killed_three_times_at_random_is_whole(
    studies: Studies, reference: Callable[[str], None], seed: int
) -> None:
    name = f"killed-{seed}"
    for moment in drawn(seed):
        kill(studies, name, moment, *resume(studies, name))
    ended = studies.run("fast", name, *resume(studies, name))
    assert ended.code == 0, ended
    reference(name)
    assert studies.left() == []


def test_the_drawn_moments_are_thirty_and_of_all_kinds() -> None:
    moments = [moment for seed in range(STUDIES) for moment in drawn(seed)]
    assert len(moments) == 30
    assert sum(not moment.events for moment in moments) >= 5
    assert {moment.events for moment in moments} >= {1, 2, 3, 4, 5}
