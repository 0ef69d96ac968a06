"""The command line `python -m study.data`: what it prints and how it exits."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study import run
from study.data.__main__ import main
from study.data.fetch import published_checksums
from study.data.source import Source, own_source
from study.data.split_file import load_split
from study.data.synthetic import write_records
from tests.builders import write_record
from tests.command import here


@pytest.fixture(autouse=True)
def _workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty workspace, with no folder given."""
    monkeypatch.chdir(tmp_path)
    for name in ("MITDB_DIR", "STUDY_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """Options that name two own records; one has Q beats."""
    write_record(tmp_path / "mine", "a01", symbols="NNNAV", duration_s=20)
    write_record(tmp_path / "mine", "a02", symbols="NNF?", duration_s=20, leads=("V5", "V1"))
    split = 'name = "mine"\ndevelopment = ["a01", "a02"]\n[patients]\na02 = "p9"\n'
    (tmp_path / "split.toml").write_text(split)
    return ["--records", "mine", "--split", "split.toml"]


def test_table_of_beats_and_exclusions(own: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """24 beats a record, in turn N N N A V and N N F ?: the last of the second is of class Q.

    N of 14 and 11 beats are worth 25^2 / (14^2 + 11^2) patients.
    """
    assert main(own) == 0
    assert capsys.readouterr().out == (
        "source     own records 'mine' in mine (split.toml)\n"
        "checksums  SHA-256 of 6 files: hashed; none are published for these records\n"
        "\n"
        "record  patient  lead  others   Hz  min  beats   N  S  V  F  Q  other  left out\n"
        "a01     a01      MLII  V1      360  0.3     24  15  5  4  0  0      0  "
        "first or last beat 2\n"
        "a02     p9       V1    V5      360  0.3     24  12  0  0  6  6      0  "
        "class Q 6, first or last beat 1\n"
        "total                                       48  27  5  4  6  6      0  "
        "class Q 6, first or last beat 3\n"
        "\n"
        "Annotated as:\n  N      N 27\n  S      A 5\n  V      V 4\n  F      F 6\n  Q      ? 6\n"
        "\n"
        "A study uses 39 beats of 2 records. Counts are of annotations, before\n"
        "anything is left out; 'other' annotations are not beats and do not count in RR "
        "intervals.\n"
        "\n"
        "database  records  patients         N        S        V        F\n"
        "mine            2         2  25 (2.0)  4 (1.0)  4 (1.0)  6 (1.0)\n"
        "In brackets: effective patients, the number of patients with equally many beats of the\n"
        "class that would say as much.\n"
    )


def test_table_notes_gaps_and_beats_annotated_twice(
    own: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In 20 s at 360 Hz a gap of 6.4 s, and two marks of one beat that disagree."""
    samples = [180, 468, 756, 758, 1044, 3348, 3636, 3924, 4212]
    symbols = ["N", "N", "N", "V", "N", "N", "N", "N", "N"]
    wfdb.wrann("a01", "atr", np.array(samples), symbol=symbols, write_dir=str(tmp_path / "mine"))
    assert main(own) == 0
    out = capsys.readouterr().out
    assert "class Q 1, first or last beat 2, beside a gap 2\n" in out
    assert "\nNote: an RR interval over 6 s, or with 2 s and more without signal, is a gap" in out
    assert "\nNote: annotated more than once within 0.2 s, taken as one beat at the first " in out
    assert "left out as class Q: a01 (1; N and V at sample 756).\n" in out


CODES = {
    "half of a pair": (["--split", "s.toml"], 2, "--split needs --records DIR"),
    "check of one's own": (["--records", "a", "--check"], 2, "--check: is of published files; "),
    "proposal of nothing": (["--records", "."], 1, ".: no WFDB records in it"),
    "split of what": (["--write-split", "s.toml"], 2, "--write-split: goes with --records alone"),
    "two sources": (
        ["--data-dir", "a", "--records", "a", "--split", "s.toml"],
        *(2, "data options: --data-dir (of a database) and --records"),
    ),
    "bad split": (["--records", ".", "--split", "bad.toml"], 2, "bad.toml: 2 faults"),
    "bad folder": (["--data-dir", "no"], 1, "--data-dir: no: no such folder"),
    "check of a bad folder": (["--data-dir", "no", "--check"], 1, "no: no such folder"),
    "check of nothing": (["--check"], 2, "--check needs --data-dir DIR or MITDB_DIR"),
}


@pytest.mark.parametrize("case", CODES)
def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    arguments, code, message = CODES[case]
    (tmp_path / "bad.toml").write_text("")
    try:
        assert main(arguments) == code
    except SystemExit as left:
        assert left.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


def test_a_folder_shows_what_a_study_can_use_and_becomes_a_split_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Leads II and V5, which all have; a03 has a detector's marks alone, a04 no annotations."""
    for name in ("a01", "p/a02", "a03", "a04"):
        write_record(tmp_path / "mine", name, symbols="NNAV", duration_s=20, leads=("V5", "II"))
    for name, suffix in (("p/a02", "ecg"), ("a03", "qrs")):
        (tmp_path / "mine" / f"{name}.atr").rename(tmp_path / "mine" / f"{name}.{suffix}")
    wfdb.wrann("a03", "qrs", np.array([180, 468]), ["|", "N"], write_dir=str(tmp_path / "mine"))
    (tmp_path / "mine" / "a04.atr").unlink()
    assert main(["--records", "mine", "--write-split", "my own.toml"]) == 0
    out = capsys.readouterr().out
    assert "\np/a02   p/a02    II    V5      360  0.3     24  12   6   6  0  0 " in out
    assert "\nleft out: a03: marks beats by N and | alone, as a detector does: " in out
    assert "\nleft out: a04: no .atr file\n" in out
    assert "\nmy own.toml: names 2 records, each as a patient. " in out
    assert out.endswith(" --records mine --split 'my own.toml' --dry-run\n")
    split = load_split(tmp_path / "my own.toml")
    assert (split.name, split.development, split.leads) == ("mine", ("a01", "p/a02"), ("II",))
    assert "p/a02.ecg" in own_source(Path("mine"), Path("my own.toml")).checksums
    assert main(["--records", "mine", "--write-split", "my own.toml"]) == 2
    assert "my own.toml: is there already" in capsys.readouterr().err


def test_the_walk_of_the_docs_from_a_folder_to_a_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On records of half a minute, where `--data synthetic` has five."""
    write_records(tmp_path / "data" / "synthetic", duration_s=30)
    page = Path(__file__).parents[2] / "docs" / "data.md"
    walk = re.findall(r"^.venv/bin/python -m study.(data|run) (.*)$", page.read_text(), re.M)
    assert len(walk) == 4
    for command, words in walk:
        ended = here(tmp_path, words.split(), {"data": main, "run": run.main}[command])
        assert ended.code == 0, ended
    assert "\nfolds: 2-fold" in ended.out


def test_check_of_mitbih_goes_file_by_file(
    records_source: Source,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Synthetic DS1 files pass for the published ones here; all others are absent."""
    published = dict.fromkeys(published_checksums(), "0" * 64)
    sums = published | dict(records_source.checksums)
    monkeypatch.setattr("study.data.fetch.published_checksums", lambda *_: sums)
    folder = shutil.copytree(records_source.folders[0], tmp_path / "mitdb")

    assert main(["--data-dir", str(folder), "--check"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 144 + 2
    assert out[0] == "100.hea  absent (DS2: no study reads it)"
    assert out[3] == "101.hea  ok"
    assert out[6] == "102.hea  absent (not studied)"
    assert out[-1].startswith(f"{folder}: 66 of 144 files as published, 0 at fault, 78 absent ")

    (folder / "101.dat").write_bytes(b"cut")
    (folder / "106.atr").unlink()
    (folder / "100.hea").write_text("another")
    assert main(["--data-dir", str(folder), "--check"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("100.hea  has SHA-256 ")
    assert out[4].startswith("101.dat  has SHA-256 ")
    assert "106.atr  missing" in out
    assert out[-1].startswith(f"{folder}: 64 of 144 files as published, 3 at fault, 77 absent")
