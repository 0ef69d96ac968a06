"""Where records come from: the order of the places, and what a bad one is answered with."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from study.data import fetch
from study.data.catalogue import CATALOGUE, DS1, MITDB, PATIENT_OF, Database
from study.data.external import external_rules, find_external, propose_split
from study.data.fetch import files_of, sha256_of
from study.data.source import Origin, Source, find_source, own_source
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_record import MITDB_RULES
from study.errors import ChecksumError, DataError, MissingDataError, UsageError
from tests.builders import pass_for, refused, write_record, write_split


@pytest.fixture(autouse=True)
def _no_folder_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor a network; and synthetic records of half a minute where a study would have five."""
    monkeypatch.delenv("MITDB_DIR", raising=False)
    monkeypatch.setattr("study.data.fetch.PHYSIONET_URL", "http://host.invalid/")

    def write_short(folder: Path, **options: Any) -> dict[str, str]:
        return write_records(folder, **(options | {"duration_s": 30}))

    monkeypatch.setattr("study.data.source.write_records", write_short)


@pytest.fixture
def mitdb(records_source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the names of DS1, whose checksums pass for the published ones."""
    sums = records_source.checksums
    monkeypatch.setattr("study.data.fetch.published_checksums", lambda *_: sums)
    return Path(shutil.copytree(records_source.folders[0], tmp_path / "given"))


def test_ds1_of_a_folder_is_verified(mitdb: Path, tmp_path: Path, records_source: Source) -> None:
    for name in ("100.dat", "100.hea", "102.atr"):
        (mitdb / name).mkdir()
    source = find_source(data_dirs=[mitdb], workspace=tmp_path)
    assert (source.kind, source.dataset, source.synthetic) == ("mitdb", "DS1", False)
    assert source.records == DS1
    origin = Origin(database="mitdb", folder=mitdb, rules=MITDB_RULES)
    assert {*source.origins.values()} == {origin}
    assert source.patients == {name: PATIENT_OF[name] for name in DS1}
    assert source.verified
    assert source.checksums == records_source.checksums
    assert source.description == (
        f"MIT-BIH Arrhythmia Database 1.0.0, DS1, in {mitdb} (--data-dir)"
    )


def test_order_of_the_places(
    mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The last one, without a network, comes under a banner."""
    source = find_source(workspace=tmp_path)
    assert (source.kind, source.synthetic, source.verified) == ("synthetic", True, False)
    assert (source.folders[0], source.records) == (tmp_path / "data" / "synthetic", DS1)
    assert source.description.startswith("SYNTHETIC records of 300 s (seed 0) in ")
    assert len(source.checksums) == 66
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "NOT MIT-BIH: THESE ARE SYNTHETIC RECORDS" in caplog.text
    assert "PhysioNet cannot be reached (http://host.invalid/mitdb/1.0.0/101.hea: " in caplog.text
    assert not (tmp_path / "data" / "mitdb").exists()
    shutil.copytree(mitdb, tmp_path / "data" / "mitdb")
    assert find_source(workspace=tmp_path).folders[0] == tmp_path / "data" / "mitdb"
    monkeypatch.setenv("MITDB_DIR", str(shutil.copytree(mitdb, tmp_path / "variable")))
    assert find_source(workspace=tmp_path).folders[0] == tmp_path / "variable"
    assert find_source(data_dirs=[mitdb], workspace=tmp_path).folders[0] == mitdb
    assert find_source(data="synthetic", workspace=tmp_path).kind == "synthetic"
    assert "Why: --data synthetic asks for them, now or as the study began.\n" in caplog.text
    monkeypatch.setenv("MITDB_DIR", "")
    assert find_source(workspace=tmp_path).folders[0] == tmp_path / "data" / "mitdb"


def test_a_bad_given_folder(mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mitdb / "106.dat").unlink()
    assert (
        refused(MissingDataError, find_source, data_dirs=[mitdb], workspace=tmp_path)
        == f"--data-dir: {mitdb}/106.dat: missing"
    )
    (mitdb / "106.dat").mkdir()
    (mitdb / "207.dat").write_bytes(b"cut")
    with pytest.raises(DataError, match="2 faults"):
        find_source(data_dirs=[mitdb], workspace=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given"]
    (tmp_path / "empty").mkdir()
    for place, fault in ((tmp_path / "empty", "not one header"), (mitdb / "101.hea", "Not a dir")):
        monkeypatch.setenv("MITDB_DIR", str(place))
        with pytest.raises(DataError, match=f"MITDB_DIR: {place}: .*{fault}"):
            find_source(workspace=tmp_path)


def test_workspace_completed(mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "mitdb"
    shutil.copytree(mitdb, folder)
    (folder / "101.dat").write_bytes(b"edited")
    with pytest.raises(ChecksumError, match=r"101\.dat: has SHA-256"):
        find_source(workspace=tmp_path)
    (folder / "230.atr").unlink()
    with pytest.raises(ChecksumError, match="delete it and fetch it again"):
        find_source(workspace=tmp_path)
    assert (folder / "101.dat").read_bytes() == b"edited"

    def download(database: Database, into: Path, names: tuple[str, ...]) -> None:
        assert (into, names) == (folder, DS1)
        shutil.copytree(mitdb, into, dirs_exist_ok=True)

    monkeypatch.setattr("study.data.source.download_records", download)
    source = find_source(workspace=tmp_path)
    assert (source.kind, source.folders[0]) == ("mitdb", folder)
    assert source.description.endswith("(downloaded)")


def test_several_databases(mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    svdb = CATALOGUE["svdb"]
    for name in svdb.records:
        write_record(tmp_path / "sv", name, rate_hz=128, leads=("ECG2", "ECG1"), duration_s=20)
    sums = {MITDB.name: fetch.published_checksums(MITDB)}
    sums["svdb"] = {file: sha256_of(tmp_path / "sv" / file) for file in files_of(svdb.records)}
    monkeypatch.setattr(fetch, "published_checksums", lambda database, _: sums[database.name])
    monkeypatch.setenv("SVDB_DIR", str(tmp_path / "sv"))
    alone = find_source(data="svdb", workspace=tmp_path)
    assert (alone.kind, alone.dataset, alone.databases) == ("svdb", "svdb", ())
    dirs = [f"svdb={tmp_path / 'sv'}", f"mitdb={mitdb}"]
    both = find_source(data="svdb+mitdb", data_dirs=dirs, workspace=tmp_path)
    assert (both.kind, both.dataset, both.verified) == ("mitdb+svdb", "DS1+svdb", True)
    assert both.records == (*DS1, *svdb.records)
    assert both.databases == ("mitdb",) * 22 + ("svdb",) * 78
    assert both.checksums == {**sums["mitdb"], **sums["svdb"]}
    assert both.read("800").lead == "ECG1"
    assert len(both.read("800").signal_mv) == 20 * 360
    assert str(mitdb) in both.where and str(tmp_path / "sv") in both.description
    for data, given, fault in (
        ("svdb+svbd", [], "unknown database 'svbd'; .* Did you mean 'svdb'"),
        ("svdb+svdb", [], "svdb is named twice"),
        ("svdb+mitdb", [mitdb], "--data-dir .*: give one folder of each database, as in "),
        ("svdb", [f"mitdb={mitdb}"], "as in --data-dir svdb=DIR"),
    ):
        with pytest.raises(UsageError, match=fault):
            find_source(data=data, data_dirs=given, workspace=tmp_path)
    monkeypatch.delenv("SVDB_DIR")
    with pytest.raises(MissingDataError, match="svdb: no folder was given, and PhysioNet cannot"):
        find_source(data="svdb", workspace=tmp_path)


def test_split_file_names_records_patients_and_lead(tmp_path: Path) -> None:
    """Of a study's own records and of those that models are tested on."""
    folder, names = tmp_path / "mine", ("a01", "a02", "p7/b01")
    for name in (*names, "unused"):
        write_record(folder, name, rate_hz=250, leads=("V5", "III"))
    path = tmp_path / "split.toml"
    path.write_text(
        'name = "mine"\ndevelopment = ["a02", "a01", "p7/b01"]\nlead = "III"\n'
        '[patients]\na01 = "p1"\na02 = "p1"\n'
    )
    source = find_source(records_dir=folder, split_file=path, workspace=tmp_path)
    external = find_external(folder, split_file=path)
    for found in (source, external.source):
        assert (found.kind, found.dataset, found.verified) == ("records", "mine", False)
        assert found.records == names
        assert found.patients == {"a01": "p1", "a02": "p1", "p7/b01": "p7/b01"}
        files = [f"{name}.{suffix}" for name in names for suffix in ("atr", "dat", "hea")]
        assert sorted(found.checksums) == files
    # Beats annotated twice are handled alike by training and testing.
    origins = (*source.origins.values(), *external.source.origins.values())
    assert {origin.rules for origin in origins} == {external_rules(["III"])}
    assert external.leads == dict.fromkeys(names, "III")
    assert find_external(folder, leads=["V5"], split_file=path).leads["a01"] == "V5"
    (folder / "a02.atr").unlink()
    with pytest.raises(DataError, match=r"/a02: no \.atr file$"):
        find_external(folder, split_file=path)


def test_records_of_a_folder_are_taken_at_any_rate_by_the_best_lead(tmp_path: Path) -> None:
    folder = tmp_path / "257 Hz"
    write_record(folder, "a", rate_hz=257, leads=("ECG2", "ECG1"))
    write_record(folder, "sub/b", rate_hz=257, leads=("V5", "MLII"))
    external = find_external(folder)
    source = external.source
    assert (source.dataset, source.kind, source.synthetic) == ("257-Hz", "records", False)
    assert source.records == ("a", "sub/b")
    assert source.patients == {"a": "a", "sub/b": "sub/b"}
    assert external.leads == {"a": "ECG1", "sub/b": "MLII"}
    assert external.rates_hz == {"a": 257.0, "sub/b": 257.0}
    assert (external.doubled, external.without_beats) == ({}, ())
    assert find_external(folder, leads=["V5", "ECG2"]).leads == {"a": "ECG2", "sub/b": "V5"}
    (folder / MANIFEST).write_text("{}")
    assert find_external(folder).source.synthetic


def test_mitbih_is_refused_under_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one's own development records DS2's alone, of those to be tested on DS1's too."""
    write_record(tmp_path, "mine")
    path = write_split(tmp_path, ["mine"])
    pass_for(monkeypatch, tmp_path / "mine.dat", "208.dat")
    assert own_source(tmp_path, path).records == ("mine",)
    with pytest.raises(DataError, match=r"is 208\.dat of MIT-BIH's DS1, .* cannot test them"):
        find_external(tmp_path)
    pass_for(monkeypatch, tmp_path / "mine.dat", "100.dat")
    shutil.copy(tmp_path / "mine.atr", tmp_path / "joined.atr")
    (tmp_path / "joined.hea").write_text("joined/1 2 360 3600\nmine 3600\n")
    (tmp_path / "sub").mkdir()
    joined = write_split(tmp_path / "sub", ["joined"])
    for find in (
        lambda: own_source(tmp_path, path),
        lambda: own_source(tmp_path, joined),
        lambda: find_external(tmp_path),
        lambda: propose_split(tmp_path),
    ):
        with pytest.raises(DataError, match=r"mine\.dat: is 100\.dat of MIT-BIH's DS2, .* sealed"):
            find()
    write_record(tmp_path / "as_published", "100")
    pass_for(monkeypatch, tmp_path / "as_published" / "100.dat", "100.dat")
    with pytest.raises(DataError, match=r"/100\.dat: is of MIT-BIH's DS2, .* without --records"):
        find_external(tmp_path / "as_published")


def test_segments_of_a_record_are_no_records_of_a_folder(tmp_path: Path) -> None:
    """Else their beats would be counted twice; the record's checksums cover their files."""
    for name in ("a", "b", "c"):
        write_record(tmp_path, name)
    (tmp_path / "a.dat").unlink()
    (tmp_path / "a.hea").write_text("a/3 2 360 7560\nb 3600\n~ 360\nc 3600\n")
    (tmp_path / "c.atr").unlink()
    shutil.copy(tmp_path / "a.atr", tmp_path / "v.atr")
    (tmp_path / "v.hea").write_text("v/2 2 360 3600\nlayout 0\nb 3600\n")
    (tmp_path / "layout.hea").write_text("layout 1 360 0\n~ 0 1000/mV 16 0 0 0 0 MLII\n")
    external = find_external(tmp_path)
    assert external.source.records == ("a", "v")
    assert (external.without_beats, dict(external.unusable)) == ((), {})
    files = ["a.hea", "b.hea", "b.dat", "c.hea", "c.dat", "a.atr", "v.hea", "v.atr"]
    assert list(external.source.checksums) == files
    (tmp_path / "c.hea").unlink()
    assert find_external(tmp_path).unusable == {"a": "its segment c has no .hea file"}
    (tmp_path / "b.dat").rename(tmp_path / "c.dat")
    with pytest.raises(DataError, match="b.dat: missing, though its header names it"):
        find_external(tmp_path)


def test_unusable_records_are_left_out_or_refused_together(tmp_path: Path) -> None:
    """Records with the same fault share a line, which names three and tells their number."""
    write_record(tmp_path, "a", rate_hz=50)
    write_record(tmp_path, "b")
    (tmp_path / "b.atr").write_bytes((tmp_path / "b.atr").read_bytes()[:-2])
    write_record(tmp_path, "c")
    (tmp_path / "c.dat").write_bytes(bytes(14_400))
    write_record(tmp_path, "fine")
    write_record(tmp_path, "800", leads=("aVF", "aVL"))
    header = (tmp_path / "800.hea").read_text()
    for name in range(801, 878):
        (tmp_path / f"{name}.hea").write_text(header.replace("800 2 ", f"{name} 2 "))
        shutil.copy(tmp_path / "800.atr", tmp_path / f"{name}.atr")
    external = find_external(tmp_path)
    assert external.source.records == ("fine",)
    assert len(external.unusable) == 81
    assert external.unusable["a"] == "sampling rate must lie in [100, 10000] Hz, got 50 Hz"
    message = refused(DataError, find_external, tmp_path, strict=True)
    assert message.startswith(
        f"{tmp_path}: 4 faults\n"
        "  - 800.hea, 801.hea, 802.hea and 75 more (78 in all): must have a lead that is "
        "accepted, best first: MLII, II, V1, V2, V4, V5, ECG1, ECG, ECG2; got aVF, aVL; "
        "give one that it has, as in --lead aVF\n"
        "  - a.hea: sampling rate must lie in [100, 10000] Hz, got 50 Hz\n"
        "  - b.atr: truncated: its end mark is missing; fetch the file again\n"
        "  - c.dat: "
    )
    (tmp_path / "fine.dat").unlink()
    with pytest.raises(DataError, match="5 faults"):
        find_external(tmp_path)


@pytest.mark.data
def test_every_record_of_the_supraventricular_database_is_read(svdb_dir: Path) -> None:
    """Two of its records have beats marked twice; 860 has one at the very end of its signal."""
    external = find_external(svdb_dir)
    assert (len(external.leads), external.unusable, external.without_beats) == (78, {}, ())
    source = find_source(data="svdb", data_dirs=[svdb_dir], workspace=svdb_dir)
    assert source.checksums == external.source.checksums
    at_the_end = source.read("860")
    assert (len(at_the_end.signal_mv), at_the_end.beat_samples[-1]) == (648_000, 648_000)
    assert set(external.rates_hz.values()) == {128.0}
    doubled = {name: [d.symbols for d in beats] for name, beats in external.doubled.items()}
    assert doubled == {"865": [("S", "Q"), ("S", "Q")], "884": [("V", "V")]}
