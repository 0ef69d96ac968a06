"""SIGKILL of the driver at any moment: nothing is lost, repeated or left running.

One study is killed at three moments that are chosen. Others are killed up to three times, at
moments that each run draws anew: the same moments again would show nothing more.
"""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from typing import Any

import pytest

from study.keys import Outcome
from tests.studies import Studies

pytestmark = pytest.mark.faults

SEED = os.environ.get("KILL_SEED") or f"{time.time():.0f}"
"""What the moments are drawn from: another in each run."""

STARTUP_S = 6.0
"""About the time from the command to the first trial."""

ONE_START = 8
"""Events of a trial and a half; three such starts are about the whole study."""


def drawn(seed: str) -> list[dict[str, Any]]:
    """Draw the three moments of a study: mostly while trials run, some before the first."""
    rng = random.Random(seed)
    moments: list[dict[str, Any]] = []
    for _ in range(3):
        if rng.random() < 0.3:
            moments.append({"after_s": rng.uniform(0.05, STARTUP_S)})
        else:
            moments.append({"events": rng.randint(1, ONE_START), "then_s": rng.uniform(0, 0.3)})
    return moments


def kill(
    studies: Studies, name: str, *, after_s: float = 0.0, events: int = 0, then_s: float = 0.0
) -> bool:
    """Start or resume a study and kill its driver; return whether it was not over before.

    It is killed some seconds after the command, or after it has written so many events.
    """
    before = studies.events(name)
    start = studies.start("fast", name, *resume(studies, name))

    def has_come() -> bool:
        if events:
            return studies.events(name) >= before + events
        return time.monotonic() - start.began >= after_s

    while start.process.poll() is None and not has_come():
        time.sleep(0.01)
    time.sleep(then_s)
    start.process.send_signal(signal.SIGKILL)
    ended = start.ended()
    assert ended.code in (0, -signal.SIGKILL), ended
    return ended.code != 0


def resume(studies: Studies, name: str) -> tuple[str, ...]:
    """Return the option that a study which was killed needs: none where it had not begun."""
    return ("--resume",) if (studies.study(name) / "plan.json").exists() else ()


@pytest.fixture(scope="module")
def outcomes(studies: Studies) -> dict[str, str]:
    """Outcomes of a study that nothing happens to, `whole`."""
    studies.here("fast", "whole").succeeded()
    outcomes = studies.audit("whole")
    assert set(outcomes.values()) == {Outcome.COMPLETE, Outcome.PRUNED}
    return outcomes


def test_a_study_killed_at_its_start_in_a_trial_and_at_its_end_is_whole(
    studies: Studies, outcomes: dict[str, str]
) -> None:
    name = "thrice"
    assert kill(studies, name, after_s=2.0)
    assert kill(studies, name, events=4, then_s=0.05)
    # At its end: every trial is settled, the tracker's last changes are not sent.
    start = studies.start("fast", name, "--resume")
    start.wait_for(lambda: "[4/4" in start.said(), "its last trial")
    start.process.send_signal(signal.SIGKILL)
    assert start.ended().code == -signal.SIGKILL
    goes_on(studies, name, outcomes)


def goes_on(studies: Studies, name: str, outcomes: dict[str, str]) -> None:
    """Run what a killed study still owes; all records must be those of `whole`."""
    studies.run("fast", name, *resume(studies, name)).succeeded()
    assert studies.audit(name) == outcomes
    studies.assert_same_curves(name, "whole")
    assert studies.left() == [], "the next start deletes what a killed one left"


@pytest.mark.parametrize("number", range(4))
def test_a_study_killed_three_times_at_random_is_whole(
    studies: Studies, outcomes: dict[str, str], number: int
) -> None:
    fits_floors, name = replace(studies, own_floors=True), f"killed-{number}"
    print(f"KILL_SEED={SEED} repeats the moments of this run")  # pytest shows it on failure
    assert any([kill(fits_floors, name, **moment) for moment in drawn(f"{SEED}/{number}")])
    goes_on(studies, name, outcomes)
