"""The clock of nested parts, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

from benchmarks.profile_study import Clock


class Time:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_part_is_timed_without_the_parts_within_it() -> None:
    now = Time()
    clock = Clock(now)
    clock.enter("outer")
    now.now += 1
    clock.enter("inner")
    now.now += 10
    clock.leave()
    now.now += 100
    assert clock.part == "outer"
    clock.leave()
    now.now += 1000
    assert clock.part == ""
    assert clock.seconds == {"outer": 101, "inner": 10}


def test_within_a_whole_part_no_other_is_told_apart() -> None:
    now = Time()
    clock = Clock(now)
    clock.enter("outer")
    clock.enter("evaluation", whole=True)
    for _ in range(2):
        clock.enter("forward")
        now.now += 1
        clock.leave()
    clock.enter("another whole one", whole=True)
    now.now += 1
    clock.leave()
    clock.leave()
    now.now += 10
    clock.leave()
    assert clock.seconds == {"evaluation": 3, "outer": 10}


def test_a_timed_function_does_what_it_did_and_is_timed_when_it_raises() -> None:
    now = Time()

    def work(seconds: float, *, fails: bool = False) -> str:
        now.now += seconds
        if fails:
            raise ValueError("broken")
        return "done"

    module = SimpleNamespace(work=work)
    clock = Clock(now)
    clock.time(module, "work", "working")
    assert module.work(2) == "done"
    try:
        module.work(3, fails=True)
    except ValueError as error:
        assert str(error) == "broken"
    assert clock.part == ""
    assert clock.seconds == {"working": 5}
