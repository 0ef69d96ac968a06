"""What a study says: plain lines in a pipe, a bar on a terminal, nothing when quiet."""

from __future__ import annotations

import errno
import io
import math
from dataclasses import replace
from typing import Any

import pytest

from study.keys import Outcome
from study.tuning.progress import Progress, duration
from tests.builders import proposal, small_config


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


PROPOSAL = proposal(small_config(), arm="film", params={"learning_rate": 0.00123456, "heads": 2})


def progress(stream: io.StringIO | None = None, **options: Any) -> Progress:
    return Progress(total=4, objective="val_auprc_sv", stream=stream or io.StringIO(), **options)


def ended(
    progress: Progress, number: int, outcome: Outcome, value: float, cause: str = ""
) -> None:
    progress.ended(number, outcome, value=value, epochs=6, seconds=12.4, cause=cause)


def test_a_pipe_gets_one_plain_line_for_each_event() -> None:
    stream = io.StringIO()
    told = progress(stream)
    told.started(0, PROPOSAL)
    of_comparison = {"arm": "film", **PROPOSAL.params}
    told.started(1, replace(PROPOSAL, attempt=2, follows=0, params=of_comparison))
    ended(told, 0, Outcome.FAILED, math.nan, "DivergedError: not finite\nand more")
    ended(told, 1, Outcome.COMPLETE, 0.5)
    ended(told, 2, Outcome.PRUNED, 0.9, "asha stopped it at epoch 2")
    ended(told, 3, Outcome.COMPLETE, 0.4)
    told.close()
    assert stream.getvalue().splitlines() == [
        "trial   0 started  film  learning_rate=0.001235 heads=2",
        "trial   0 goes on as 1 (attempt 2)  film  learning_rate=0.001235 heads=2",
        "trial   0 failed   no score  6 epochs, 12 s  [1/4, no score yet, 0 s left]"
        "  DivergedError: not finite",
        "trial   1 complete val_auprc_sv .500  6 epochs, 12 s  [2/4, best .500, 0 s left]",
        "trial   2 pruned   val_auprc_sv .900  6 epochs, 12 s  [3/4, best .500, 0 s left]"
        "  asha stopped it at epoch 2",
        "trial   3 complete val_auprc_sv .400  6 epochs, 12 s  [4/4, best .500, 0 s left]",
    ]


def test_the_time_left_goes_by_the_epochs_that_are_left_and_what_one_took() -> None:
    # 4 trials of 6 epochs; an earlier start has settled one of them.
    assert progress(done=4).time_left() == "0 s"
    told = progress(done=1, epochs=18)
    assert told.time_left() == "?"
    told.started(1, PROPOSAL)
    told.started(2, PROPOSAL)
    told.trained(1, 10.0)
    assert told.time_left() == "85 s", "17 epochs of 10 s on two slots"
    told.trained(1, 20.0)
    assert told.time_left() == "2 min", "16 of 15 s"
    told.trained(0, 15.0)
    assert told.time_left() == "2 min", "a retry comes by an epoch that was counted"
    told.ended(1, Outcome.PRUNED, value=0.5, epochs=1, untrained=5, seconds=60.0, cause="")
    assert told.time_left() == "82 s", "11 are left"


def test_a_terminal_gets_lines_above_a_bar() -> None:
    stream = Terminal()
    told = progress(stream, done=1)
    told.line("a line")
    for value in (0.7, math.nan, 0.6):
        told.known(value)
    ended(told, 1, Outcome.COMPLETE, 0.5)
    told.close()
    assert "a line\n" in stream.getvalue()
    assert "| 2/4 [" in stream.getvalue()
    assert "best .700, 0 s left" in stream.getvalue().splitlines()[-1], "the best of all starts"
    silent = Terminal()
    ended(progress(silent, quiet=True), 1, Outcome.COMPLETE, 0.5)
    assert silent.getvalue() == ""


def test_duration() -> None:
    told = [duration(seconds) for seconds in (0, 89, 90, 5399, 5400)]
    assert told == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_a_study_goes_on_where_its_progress_cannot_be_written(number: int) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, "gone")

    told = progress(Gone())
    told.line("one")
    told.line("two")
