"""Where records come from: the order of the places, and what a bad one is answered with."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from study.data.fetch import UnreachableError
from study.data.records import DS1, PATIENT_OF
from study.data.source import Source, find_source, synthetic_source
from study.data.split_file import load_split
from study.data.wfdb_record import MITDB_RULES, ReadingRules
from study.errors import ChecksumError, ConfigError, DataError, MissingDataError, UsageError

if TYPE_CHECKING:
    from tests.data.conftest import WriteRecord

NOWHERE = "http://host.invalid/"


@pytest.fixture(autouse=True)
def _no_folder_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MITDB_DIR", raising=False)


@pytest.fixture
def mitdb(records_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the names of DS1, whose checksums pass for the published ones."""
    sums = records_source.checksums
    monkeypatch.setattr("study.data.source.published_checksums", lambda: sums)
    monkeypatch.setattr("study.data.fetch.published_checksums", lambda: sums)
    folder = tmp_path / "given"
    shutil.copytree(records_source.folder, folder)
    return folder


def test_given_folder_is_verified(mitdb: Path, tmp_path: Path, records_source: Source) -> None:
    source = find_source(data_dir=mitdb, workspace=tmp_path)
    assert (source.kind, source.dataset, source.synthetic) == ("mitdb", "DS1", False)
    assert source.folder == mitdb
    assert source.development == DS1
    assert source.patients == {name: PATIENT_OF[name] for name in DS1}
    assert source.rules == MITDB_RULES
    assert source.verified
    assert source.checksums == records_source.checksums
    assert source.description == (
        f"MIT-BIH Arrhythmia Database 1.0.0, DS1, in {mitdb} (--data-dir)"
    )


def test_order_of_the_places(mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def folder_found() -> Path:
        return find_source(workspace=tmp_path, base_url=NOWHERE).folder

    assert folder_found() == tmp_path / "data" / "synthetic"
    shutil.copytree(mitdb, tmp_path / "data" / "mitdb")
    assert folder_found() == tmp_path / "data" / "mitdb"
    monkeypatch.setenv("MITDB_DIR", str(shutil.copytree(mitdb, tmp_path / "variable")))
    assert folder_found() == tmp_path / "variable"
    assert find_source(data_dir=mitdb, workspace=tmp_path).folder == mitdb
    monkeypatch.setenv("MITDB_DIR", "")
    assert folder_found() == tmp_path / "data" / "mitdb"


def test_files_outside_ds1_are_not_looked_at(mitdb: Path, tmp_path: Path) -> None:
    for name in ("100.dat", "100.hea", "102.atr"):
        (mitdb / name).mkdir()
    assert find_source(data_dir=mitdb, workspace=tmp_path).verified


def test_given_folder_that_is_bad_is_an_error_with_all_faults(mitdb: Path, tmp_path: Path) -> None:
    (mitdb / "101.atr").unlink()
    (mitdb / "106.hea").unlink()
    (mitdb / "106.dat").unlink()
    with pytest.raises(MissingDataError) as missing:
        find_source(data_dir=mitdb, workspace=tmp_path)
    assert str(missing.value) == (
        f"--data-dir: {mitdb}: 2 faults\n"
        "  - record 101: missing 101.atr\n"
        "  - record 106: missing 106.hea, 106.dat"
    )
    (mitdb / "207.dat").write_bytes(b"cut")
    with pytest.raises(ChecksumError) as altered:
        find_source(data_dir=mitdb, workspace=tmp_path)
    lines = str(altered.value).splitlines()
    assert lines[:2] == [f"--data-dir: {mitdb}: 3 faults", "  - record 101: missing 101.atr"]
    assert lines[3].startswith("  - 207.dat has SHA-256 ")
    assert lines[3].endswith("...: damaged or edited; fetch it again")
    (mitdb / "208.dat").unlink()
    (mitdb / "208.dat").mkdir()
    with pytest.raises(
        DataError, match=r"- 208\.dat cannot be read: Is a directory"
    ) as unreadable:
        find_source(data_dir=mitdb, workspace=tmp_path)
    assert type(unreadable.value) is DataError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given"]


FOLDERS = {
    "absent": (None, MissingDataError, "no such folder; give the folder of the WFDB records"),
    "empty": ({}, MissingDataError, "no WFDB records in it: not one header (*.hea)"),
    "other": ({"notes.txt": "x"}, MissingDataError, "no WFDB records in it: not one header"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_folder_without_records_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    files, kind, message = FOLDERS[case]
    folder = tmp_path / "records"
    if files is not None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
    monkeypatch.setenv("MITDB_DIR", str(folder))
    with pytest.raises(kind) as caught:
        find_source(workspace=tmp_path)
    assert str(caught.value).startswith(f"MITDB_DIR: {folder}: {message}")


def test_file_in_place_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError) as caught:
        find_source(data_dir=tmp_path / "file", workspace=tmp_path)
    message = f"--data-dir: {tmp_path}/file: must be a folder that can be read: Not a directory"
    assert str(caught.value) == message


def test_without_network_synthetic_records_come_under_a_banner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = find_source(workspace=tmp_path, base_url=NOWHERE)
    assert (source.kind, source.synthetic, source.verified) == ("synthetic", True, False)
    assert source.folder == tmp_path / "data" / "synthetic"
    assert source.development == DS1
    assert len(source.checksums) == 66
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "NOT MIT-BIH: THESE ARE SYNTHETIC RECORDS" in caplog.text
    assert "PhysioNet cannot be reached (http://host.invalid/101.hea: " in caplog.text
    assert source.description.startswith("SYNTHETIC records of 300 s (seed 0) in ")
    assert not (tmp_path / "data" / "mitdb").exists()


def test_download_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        "study.data.source.download_records", lambda *_, **__: pytest.fail("asked")
    )
    assert find_source(workspace=tmp_path, allow_download=False).synthetic
    assert "downloading is switched off" in caplog.text


def test_incomplete_folder_of_the_workspace_is_completed_by_a_download(
    mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "mitdb"
    shutil.copytree(mitdb, folder)
    (folder / "230.atr").unlink()

    def fetch(into: Path, names: tuple[str, ...], *, base_url: str) -> None:
        assert (into, names, base_url) == (folder, DS1, NOWHERE)
        shutil.copy(mitdb / "230.atr", into)

    monkeypatch.setattr("study.data.source.download_records", fetch)
    source = find_source(workspace=tmp_path, base_url=NOWHERE)
    assert (source.kind, source.folder) == ("mitdb", folder)
    assert source.description.endswith("(downloaded)")


def test_altered_folder_of_the_workspace_is_an_error(mitdb: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "mitdb"
    shutil.copytree(mitdb, folder)
    (folder / "101.dat").write_bytes(b"edited")
    with pytest.raises(ChecksumError, match=r"101\.dat has SHA-256"):
        find_source(workspace=tmp_path, base_url=NOWHERE)
    (folder / "230.atr").unlink()
    with pytest.raises(ChecksumError, match="delete it, and it is downloaded again"):
        find_source(workspace=tmp_path, base_url=NOWHERE)


def test_unreachable_is_the_only_reason_to_fall_back() -> None:
    assert not issubclass(UnreachableError, DataError)
    assert not issubclass(ChecksumError, UnreachableError)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "both": (
        {"data_dir": Path("a"), "records_dir": Path("b"), "split_file": Path("c")},
        "--data-dir (MIT-BIH) and --records (one's own) exclude each other",
    ),
    "no split": (
        {"records_dir": Path("b")},
        "--records needs --split FILE, which says which records to use",
    ),
    "no records": (
        {"split_file": Path("c")},
        "--split needs --records DIR, the folder of the records it names",
    ),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options_that_do_not_go_together(tmp_path: Path, case: str) -> None:
    options, message = OPTIONS[case]
    with pytest.raises(UsageError) as caught:
        find_source(workspace=tmp_path, **options)
    assert str(caught.value) == f"data options: {message}"


def split(folder: Path, text: str) -> Path:
    path = folder / "split.toml"
    path.write_text(text)
    return path


def test_own_records_are_found_by_their_split(tmp_path: Path, write_record: WriteRecord) -> None:
    folder = tmp_path / "mine"
    for name in ("a02", "a01", "p7/b01", "unused"):
        write_record(folder, name, rate_hz=250, leads=("II", "V5"))
    path = split(
        tmp_path,
        'name = "mine"\ndevelopment = ["a02", "a01", "p7/b01"]\nlead = "II"\n'
        '[patients]\na01 = "p1"\na02 = "p1"\n',
    )
    source = find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    assert (source.kind, source.dataset, source.verified) == ("records", "mine", False)
    assert source.development == ("a01", "a02", "p7/b01")
    assert source.patients == {"a01": "p1", "a02": "p1", "p7/b01": "p7/b01"}
    assert source.rules == ReadingRules(leads=("II",), sampling_rate_hz=None)
    assert sorted(source.checksums) == sorted(
        f"{name}.{suffix}" for name in source.development for suffix in ("hea", "dat", "atr")
    )
    before = dict(source.checksums)
    write_record(folder, "a01", rate_hz=250, leads=("II", "V5"), duration_s=20)
    again = find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    changed = {file for file in before if before[file] != again.checksums[file]}
    assert changed == {"a01.hea", "a01.dat", "a01.atr"}


def test_faults_of_own_records_come_together(tmp_path: Path, write_record: WriteRecord) -> None:
    folder = tmp_path / "mine"
    for name in ("a01", "a02", "a03"):
        write_record(folder, name)
    (folder / "a01.atr").unlink()
    (folder / "a02.dat").unlink()
    path = split(tmp_path, 'name = "mine"\ndevelopment = ["a01", "a02", "a03", "a04"]\n')
    with pytest.raises(MissingDataError) as missing:
        find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    assert str(missing.value) == (
        f"--records {folder}: 3 faults\n"
        f"  - {folder}: record a01: missing a01.atr\n"
        f"  - {folder}/a02.hea: names a02.dat, which is missing\n"
        f"  - {folder}: record a04: missing a04.hea, a04.atr"
    )
    (folder / "a03.dat").write_bytes(b"short")
    with pytest.raises(DataError, match=r"a03\.dat: truncated") as mixed:
        find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    assert type(mixed.value) is DataError


def test_sealed_records_are_refused_under_any_name(
    tmp_path: Path, write_record: WriteRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    write_record(folder, "a01")
    path = split(tmp_path, 'name = "mine"\ndevelopment = ["a01"]\n')
    sums = find_source(records_dir=folder, split_file=path, workspace=tmp_path).checksums
    sealed = dict.fromkeys([f"{n}{s}" for n in PATIENT_OF for s in (".hea", ".dat", ".atr")], "")
    sealed["100.dat"] = sums["a01.dat"]
    monkeypatch.setattr("study.data.checksums.published_checksums", lambda: sealed)
    with pytest.raises(DataError) as caught:
        find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    assert str(caught.value) == (
        f"--records {folder}: {folder}/a01.dat: is 100.dat of MIT-BIH's DS2, which is sealed: "
        "only `python -m study.evaluate` reads it, by a plan written before; give another"
    )


SPLITS = {
    "nothing": (
        "",
        [
            "name: must be a word of letters, digits, - and _, got None",
            "development: must be a list of one or more record names, got None",
        ],
    ),
    "a typo": (
        'name = "x"\ndevelopment = ["a"]\npatient = 1\n',
        [
            "unknown key 'patient'; known: development, lead, name, patients. "
            "Did you mean 'patients'?"
        ],
    ),
    "a path": (
        'name = "x/y"\ndevelopment = ["a", "../b", 3]\n',
        [
            "name: must be a word of letters, digits, - and _, got 'x/y'",
            "development: must hold record names such as 'a01' or 'p1/a01', got '../b'",
            "development: must hold record names such as 'a01' or 'p1/a01', got 3",
        ],
    ),
    "a taken name": (
        'name = "DS2"\ndevelopment = ["a"]\n',
        ["name: DS2 is MIT-BIH's; choose another"],
    ),
    "twice": (
        'name = "x"\ndevelopment = ["a", "b", "a"]\n',
        ["development: 'a' is listed more than once"],
    ),
    "patients": (
        'name = "x"\ndevelopment = ["a01"]\nlead = 2\n[patients]\na1 = "p"\na01 = 7\n',
        [
            "patients: unknown record 'a1'; known: a01. Did you mean 'a01'?",
            "patients: a01: must be a text that is not empty, got 7",
            "lead: must be the name of a lead, got 2",
        ],
    ),
    "no table": (
        'name = "x"\ndevelopment = "a01"\npatients = ["p"]\n',
        [
            "development: must be a list of one or more record names, got 'a01'",
            "patients: must be a table of record = patient, got ['p']",
        ],
    ),
}


@pytest.mark.parametrize("case", SPLITS)
def test_faults_of_a_split_file_come_together(tmp_path: Path, case: str) -> None:
    text, faults = SPLITS[case]
    path = split(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_split(path)
    one, more = f"{path}: {faults[0]}", f"{path}: {len(faults)} faults\n  - "
    assert str(caught.value) == (one if len(faults) == 1 else more + "\n  - ".join(faults))


def test_split_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as absent:
        load_split(tmp_path / "no.toml")
    assert str(absent.value) == f"{tmp_path}/no.toml: no such split file"
    with pytest.raises(ConfigError, match=r"split\.toml: cannot be read as TOML: "):
        load_split(split(tmp_path, "name = x"))


def test_synthetic_source_describes_itself(tmp_path: Path) -> None:
    source = synthetic_source(tmp_path, duration_s=60, seed=2, names=("106", "101"))
    assert source.development == ("101", "106")
    assert source.patients == {"101": "101", "106": "106"}
    assert len(source.checksums) == 6
    assert source.description == f"SYNTHETIC records of 60 s (seed 2) in {tmp_path}"


@pytest.mark.data
def test_real_records_are_as_published(mitdb_dir: Path, tmp_path: Path) -> None:
    source = find_source(data_dir=mitdb_dir, workspace=tmp_path)
    assert source.verified
    assert len(source.checksums) == 66
    assert list(tmp_path.iterdir()) == []
