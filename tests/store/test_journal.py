"""The journal: what is written comes back, whatever was cut off, and what was altered is named."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from study.errors import DiskError, StudyStateError
from study.store.journal import JOURNAL, SENT, Journal, Kind, Mark, read


def write(folder: Path, *epochs: int) -> Path:
    journal = Journal(folder)
    for epoch in epochs:
        journal.append(Kind.EPOCH, {"digest": "d", "epoch": epoch, "metrics": {"a": epoch / 3}})
    journal.close()
    return folder / JOURNAL


def epochs(folder: Path) -> list[int]:
    return [event.content["epoch"] for event in read(folder).events]


def test_events_come_back_in_order_to_the_last_bit(tmp_path: Path) -> None:
    metrics = {"nan": math.nan, "up": math.inf, "down": -math.inf, "third": 1 / 3, "e": 5e-324}
    journal = Journal(tmp_path)
    first = journal.append(Kind.EPOCH, {"metrics": metrics, "text": "line\nbreak, \u00e4, \u2028"})
    # Read while the file is open: a kill at this point loses nothing.
    (event,) = read(tmp_path).events
    assert (event.number, event.time_s, event.kind) == (1, first.time_s, Kind.EPOCH)
    assert math.isnan(event.content["metrics"].pop("nan"))
    assert event.content["metrics"] == {k: v for k, v in metrics.items() if k != "nan"}
    assert event.content["text"] == "line\nbreak, \u00e4, \u2028"
    assert journal.append(Kind.CLOSE, {}).number == 2
    journal.close()
    again = Journal(tmp_path)
    assert again.append(Kind.STUDY, {}).number == 3
    again.close()


def test_without_a_journal_nothing_was_told(tmp_path: Path) -> None:
    lines = read(tmp_path)
    assert (lines.events, lines.faults, lines.last) == ((), (), 0)
    assert list(tmp_path.iterdir()) == []


def test_a_last_line_that_was_cut_off_anywhere_is_dropped_and_said(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    whole = path.read_bytes()
    kept = len(whole) - len(whole.splitlines(keepends=True)[-1])
    for size in range(kept, len(whole)):
        path.write_bytes(whole[:size])
        lines, cut = read(tmp_path), size - kept
        assert [event.number for event in lines.events] == [1, 2]
        said = f"journal.jsonl: its last line was cut off ({cut} bytes), and is dropped"
        assert lines.faults == ((said,) if cut else ())
        write(tmp_path, 7)
        assert epochs(tmp_path) == [1, 2, 7]
        assert read(tmp_path).faults == ()


def test_an_altered_line_is_named_and_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    whole = path.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    for place in range(len(second) - 1):
        byte = bytes([second[place] ^ 1])
        path.write_bytes(first + second[:place] + byte + second[place + 1 :] + third)
        if byte == b"\n":
            continue
        assert epochs(tmp_path) == [1, 3]
        assert read(tmp_path).faults == (
            "journal.jsonl line 2: was altered since it was written, and is left out",
        )
    # A number is not given twice.
    path.write_bytes(first + second + b"{}\n")
    write(tmp_path, 4)
    assert [event.number for event in read(tmp_path).events] == [1, 2, 4]
    assert len(read(tmp_path).faults) == 1


def test_a_line_that_was_taken_away_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, 1, 2, 3)
    first, _, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third)
    assert epochs(tmp_path) == [1, 3]
    assert read(tmp_path).faults == (
        "journal.jsonl line 2: is event 3, where 2 was due: lines before it were added, moved or "
        "taken away",
    )


def test_a_journal_that_cannot_be_opened_is_explained(tmp_path: Path) -> None:
    (tmp_path / JOURNAL).mkdir()
    with pytest.raises(StudyStateError) as caught:
        Journal(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / JOURNAL}: cannot be read (Is a directory); it keeps what MLflow is to be "
        "told: mend that first"
    )


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, 1)
    journal = Journal(tmp_path)
    file = journal._file

    class Full:
        """Takes half of what it is given, as a disk does that has no room for the rest."""

        def write(self, line: bytes) -> int:
            return file.write(line[: len(line) // 2])

        truncate = file.truncate

    monkeypatch.setattr(journal, "_file", Full())
    with pytest.raises(
        DiskError, match=f"{JOURNAL}: cannot be written .No space left on device.; it takes"
    ):
        journal.append(Kind.EPOCH, {"epoch": 2})
    monkeypatch.setattr(journal, "_file", file)
    assert journal.append(Kind.EPOCH, {"epoch": 3}).number == 2
    journal.close()
    assert epochs(tmp_path) == [1, 3]
    assert read(tmp_path).faults == ()


def test_a_mark_moves_and_stays(tmp_path: Path) -> None:
    Mark(tmp_path, 9).move(7)
    assert Mark(tmp_path, 9).sent == 7
    assert Mark(tmp_path, 5).sent == 5, "the journal lost its end in a power cut"
    assert json.loads((tmp_path / SENT).read_text()) == {"sent": 7, "store": ""}


def test_a_mark_is_of_one_store(tmp_path: Path) -> None:
    Mark(tmp_path, 9, "mlflow.db").move(7)
    assert Mark(tmp_path, 9, "mlflow.db").sent == 7
    assert Mark(tmp_path, 9).sent == 7, "whichever it was"
    another = Mark(tmp_path, 9, "http://host")
    assert (another.sent, another.other_store) == (0, "mlflow.db")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"sent": null}', b"\xff"])
def test_after_a_damaged_mark_everything_is_sent_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / SENT).write_bytes(content)
    assert Mark(tmp_path, 9).sent == 0
