from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from study.errors import StudyStateError
from study.store.openings import OpeningsLog

BROKEN = "the line before it was altered, added or taken away since it was written"


@pytest.fixture
def log(tmp_path: Path) -> OpeningsLog:
    return OpeningsLog(tmp_path)


def opened(log: OpeningsLog, *plans: str) -> list[str]:
    """Append an opening of each plan; return the lines of the file."""
    for plan in plans:
        log.append({"plan": plan, "plan_hash": 20 * plan})
    return log.path.read_text().splitlines()


def faults(log: OpeningsLog, *lines: str) -> list[str]:
    """Return what is wrong with each line, after these were written."""
    if lines:
        log.path.write_text("\n".join(lines) + "\n")
    return [opening.fault.removeprefix("test_openings.jsonl line ") for opening in log.read()]


def test_openings_are_counted_by_plan(log: OpeningsLog) -> None:
    assert log.read() == []
    assert log.sentence() == "DS2 has been opened 0 times in this workspace."
    assert not log.path.exists()
    opened(log, "a")
    assert log.sentence() == (
        "DS2 has been opened 1 time in this workspace, for this plan: a (aaaaaaaaaaaa)."
    )
    opened(log, "b", "a")
    assert log.sentence() == (
        "DS2 has been opened 3 times in this workspace, for these plans: a (aaaaaaaaaaaa) x 2, "
        "b (bbbbbbbbbbbb)."
    )
    assert [opening.number for opening in log.read()] == [1, 2, 3]


def test_an_altered_line_shows_wherever_it_is(log: OpeningsLog) -> None:
    lines = opened(log, "a", "b", "c")
    for number, line in enumerate(lines):
        altered = line.replace('"host"', '"haste"')
        shown = faults(log, *lines[:number], altered, *lines[number + 1 :])
        assert (
            len(shown) == 3 and shown[number] == f"{number + 1}: was altered since it was written"
        )


def test_a_line_that_was_taken_away_or_made_up_shows(log: OpeningsLog) -> None:
    lines = opened(log, "a", "b", "c")
    assert faults(log, lines[0], lines[2]) == ["", f"2: {BROKEN}"]
    assert faults(log, *lines[1:])[0] == f"1: {BROKEN}"
    assert faults(log, '{"plan": "a"}', "[]") == [
        f"{number}: is not an opening, and counts as one" for number in (1, 2)
    ]


def test_a_damaged_line_is_named_and_counts(log: OpeningsLog) -> None:
    lines = opened(log, "a", "b")
    # As after a full disk: the last line is half there, without an end.
    log.path.write_text(f"{lines[0]}\n{lines[1][:40]}")
    assert log.sentence().splitlines() == [
        "DS2 has been opened 2 times in this workspace, for these plans: a (aaaaaaaaaaaa), "
        "an unreadable line.",
        "warning: test_openings.jsonl line 2: cannot be read, and counts as an opening",
    ]
    third = log.append({"plan": "c", "plan_hash": "c"})
    assert (third.number, faults(log)[2]) == (3, "")
    assert log.path.read_text().splitlines()[1] == lines[1][:40]


def test_a_log_that_cannot_be_written_or_read_opens_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyStateError, match=r"cannot be written \(.*\); DS2 was not opened"):
        OpeningsLog(tmp_path / "file").append({"plan": "a"})
    with pytest.raises(StudyStateError, match="how often svdb was opened is unknown"):
        OpeningsLog(tmp_path, "svdb").path.mkdir()
        OpeningsLog(tmp_path, "svdb").read()


def _append(folder: Path, name: str) -> None:
    for _ in range(20):
        OpeningsLog(folder).append({"plan": name})


def test_processes_that_append_at_once_break_no_line(log: OpeningsLog) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_append, args=(log.path.parent, name)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert faults(log) == 40 * [""]
    plans = [json.loads(line)["plan"] for line in log.path.read_text().splitlines()]
    assert sorted(plans) == 20 * ["a"] + 20 * ["b"]
