"""What a study says: plain lines in a pipe, one that moves on a terminal, nothing when quiet."""

from __future__ import annotations

import errno
import io
import itertools
import logging
import math
import re
import time
from dataclasses import replace
from typing import Any

import pytest

from study.keys import Outcome
from study.tuning import screen
from study.tuning.progress import Progress
from tests.builders import proposal, small_config


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


PROPOSAL = proposal(
    small_config(epochs=6),
    arm="opt1 / film / real",
    params={"learning_rate": 0.00123456, "heads": 2},
)


def progress(stream: io.StringIO | None = None, **options: Any) -> Progress:
    arms = ["opt1 / film / real", "opt1 / concat / real"]
    given = {"total": 4, "objective": "val_auprc_sv", "arms": arms, **options}
    return Progress(**given, stream=stream or io.StringIO())


def ended(
    progress: Progress, number: int, outcome: Outcome, value: float, cause: str = ""
) -> None:
    progress.ended(number, outcome, value=value, epochs=6, seconds=12.4, cause=cause)


def test_a_pipe_gets_one_plain_line_for_each_event() -> None:
    stream = io.StringIO()
    told = progress(stream)
    told.phase("starting Ray")
    told.started(0, PROPOSAL)
    of_comparison = {"arm": PROPOSAL.arm, **PROPOSAL.params}
    told.started(1, replace(PROPOSAL, attempt=2, follows=0, params=of_comparison))
    ended(told, 0, Outcome.FAILED, math.nan, "DivergedError: not finite\nand more")
    ended(told, 1, Outcome.COMPLETE, 0.5)
    ended(told, 2, Outcome.PRUNED, 0.9, "asha stopped it at epoch 2")
    ended(told, 3, Outcome.SCREENED, 0.4)
    told.close()
    trial = "film learning_rate=0.001235 heads=2"
    assert stream.getvalue().splitlines() == [
        "starting Ray",
        f"trial   0 started  {trial}",
        f"trial   0 goes on as 1 (attempt 2)  {trial}",
        f"trial   0 failed   no score  6 epochs, 12 s  {trial}  [1/4, no score yet, 0 s left]"
        "  DivergedError: not finite",
        f"trial   1 complete AUPRC S+V .500  6 epochs, 12 s  {trial}  [2/4, best .500, 0 s left]",
        "trial   2 pruned   AUPRC S+V .900  6 epochs, 12 s  [3/4, best .500, 0 s left]"
        "  asha stopped it at epoch 2",
        "trial   3 screened AUPRC S+V .400  6 epochs, 12 s"
        "  [4/4, best .500, best screened .400, 0 s left]",
    ]


def test_the_time_left_goes_by_the_epochs_that_are_left_and_what_one_took() -> None:
    # 4 trials of 6 epochs; an earlier start has settled one of them.
    assert progress(done=4).seconds_left() == 0
    assert math.isnan(progress(done=1, epochs=18).seconds_left())
    told = progress(done=1, epochs=18, epoch_s=5.0, slots=2)
    assert told.seconds_left() == 45.0, "an estimate counts until an epoch was timed"
    for number in (1, 2):
        told.started(number, PROPOSAL)
    for fresh, took_s, left_s in ((1, 10.0, 85), (1, 20.0, 120), (0, 15.0, 120)):
        told.trained(1, 1, fresh, took_s)
        assert told.seconds_left() == pytest.approx(left_s, abs=1), "0 epochs: a retry's"
    told.ended(1, Outcome.PRUNED, value=0.5, epochs=1, untrained=5, seconds=60.0, cause="")
    assert told.seconds_left() == pytest.approx(11 * 15 / 2, abs=1), "11 are left"


def test_a_terminal_gets_lines_above_one_that_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(screen, "_EVERY_S", 0.01)
    stream, places = Terminal(), iter(f"epoch 2/6 fold {n}/5" for n in itertools.count(1))
    told = progress(stream, done=1, epochs=6, epoch_s=60.0, place=lambda digest: next(places))
    told.open()
    told.phase("fitting a floor")
    for value in (0.7, math.nan, 0.6):
        told.known(Outcome.COMPLETE, value)
    told.started(1, PROPOSAL)
    while "fold 4/5" not in stream.getvalue():
        time.sleep(0.01)
    logging.getLogger("study").warning("beside")
    told.line("a line")
    ended(told, 1, Outcome.COMPLETE, 0.5)
    told.stopped(2)
    told.close()
    assert told.moving(80) == "2/4 | stopping: Ray ends, what is done is kept | best .700"
    shown = stream.getvalue().split("\r\x1b[K")
    assert "1/4 | fitting a floor | no score yet | 6:00 left" in shown
    assert re.search(
        r"1/4 \| 1: epoch 2/6 fold 4/5 \| best \.700 \| \d:\d\d left", stream.getvalue()
    )
    assert "a line\n" in shown and shown[-1] == "", "it is removed at the end"
    assert max(len(text) for text in shown if text.endswith(" left")) < 80
    silent = Terminal()
    ended(progress(silent, quiet=True), 1, Outcome.COMPLETE, 0.5)
    assert silent.getvalue() == ""


@pytest.mark.parametrize("number", [errno.EIO, errno.EPIPE, errno.ENOSPC])
def test_a_study_goes_on_where_its_progress_cannot_be_written(number: int) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(number, "gone")

    told = progress(Gone())
    told.line("one")
    told.line("two")
