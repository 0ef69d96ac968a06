from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study.data.catalogue import DS1, DS2
from study.data.fetch import files_of, sha256_of
from study.data.synthetic import MANIFEST, write_records
from study.errors import ChecksumError, DataError, MissingDataError, UsageError
from study.sealed import records as module
from study.sealed.records import Asked, find_records


def asked(workspace: Path, *folders: Path, **more: Any) -> Asked:
    return Asked(developments=("mitdb",), data_dirs=folders, workspace=workspace, **more)


@pytest.fixture(scope="module")
def all_of_mitdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stand-ins of every record of DS1 and DS2, without the manifest that gives them away."""
    folder = tmp_path_factory.mktemp("mitdb")
    write_records(folder, names=(*DS1, *DS2), duration_s=30)
    (folder / MANIFEST).unlink()
    return folder


@pytest.fixture
def published(all_of_mitdb: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of files that count as the published ones."""
    sums = {file: sha256_of(all_of_mitdb / file) for file in files_of((*DS1, *DS2))}
    monkeypatch.setattr("study.data.catalogue._packaged_checksums", lambda name: sums)
    monkeypatch.delenv("MITDB_DIR", raising=False)
    return Path(shutil.copytree(all_of_mitdb, tmp_path / "mitdb"))


def test_ds2_is_known_by_name_and_hash(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = find_records(asked(tmp_path, published))
    trained_on, test = records.developments["mitdb"], records.test
    assert (trained_on.kind, trained_on.records) == ("mitdb", DS1)
    assert (test.dataset, sorted(test.checksums)) == ("DS2", sorted(files_of(DS2)))
    assert test.checksums["100.dat"] == sha256_of(published / "100.dat")
    assert test.patients["202"] == trained_on.patients["201"] == "201"
    edited = replace(test, checksums={**test.checksums, "100.atr": "other"})
    assert replace(records, test=edited).test_digest != records.test_digest
    monkeypatch.setenv("MITDB_DIR", str(published))
    assert find_records(asked(tmp_path)).test.folders[0] == published


def test_a_workspace_that_has_all_files_downloads_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    monkeypatch.setattr(module, "download_records", lambda db, f, of: names.extend((f, *of)))
    own = tmp_path / "data" / "mitdb"
    own.parent.mkdir()
    published.rename(own)
    assert find_records(asked(tmp_path)).test.folders[0] == own
    # What is there is verified and kept; what is not would be fetched, DS2 included.
    assert names == [own, *DS1, own, *DS2]


def test_ds2_that_is_missing_or_edited_is_refused(published: Path, tmp_path: Path) -> None:
    marks = published / "234.atr"
    whole = marks.read_bytes()
    marks.write_bytes(b"edited")
    with pytest.raises(ChecksumError, match="needs DS2.*234.atr: has SHA-256 .* damaged or edit"):
        find_records(asked(tmp_path, published))
    marks.write_bytes(whole)
    for file in files_of(DS2[:2]):
        (published / file).unlink()
    with pytest.raises(MissingDataError, match=r"needs DS2.*100.atr and 3 more \(6 in all\)"):
        find_records(asked(tmp_path, published))


def test_what_trains_is_not_what_tests(published: Path, halves: Path, tmp_path: Path) -> None:
    said = "DS1 cannot test what trains on mitdb: they share 66 files .*; name another test set"
    with pytest.raises(UsageError, match=said):
        find_records(asked(tmp_path, published, test_set="DS1"))
    split = tmp_path / "split.toml"
    split.write_text('name = "mine"\ndevelopment = ["101", "106"]\ntest = ["100"]\n')
    own = Asked(developments=("records",), test_set="mine-test", own=(halves, split))
    records = find_records(own)
    assert records.developments["records"].records == ("101", "106")
    assert records.test.records == ("100",)
    shutil.copytree(halves, tmp_path / "copied")
    for suffix in (".dat", ".atr"):
        shutil.copy(halves / f"101{suffix}", tmp_path / "copied" / f"100{suffix}")
    copied = replace(own, own=(tmp_path / "copied", split))
    with pytest.raises(UsageError, match="mine-test cannot test what trains on records: they sh"):
        find_records(copied)
    with pytest.raises(UsageError, match="name them by --records DIR and --split FILE"):
        find_records(replace(own, own=None))


def test_synthetic_records_are_no_mitdb_and_real_ones_no_rehearsal(
    halves: Path, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="synthetic records, and a sealed test is on real ones"):
        find_records(asked(tmp_path, halves))
    with pytest.raises(UsageError, match=r"does not hold synthetic records \(synthetic.json is"):
        find_records(asked(tmp_path, published, synthetic=True))
    # What says that they are synthetic does not make them so: their content is what counts.
    shutil.copy(halves / MANIFEST, published)
    with pytest.raises(UsageError, match=r"101.hea is 101.hea of MIT-BIH .*, and a rehearsal is"):
        find_records(asked(tmp_path, published, synthetic=True))
    for file in files_of((*DS1, *DS2[1:])):
        shutil.copy(halves / "103.dat", published / file)
    with pytest.raises(UsageError, match=r"100.hea is 100.hea of MIT-BIH"):
        find_records(asked(tmp_path, published, synthetic=True))


def test_a_rehearsal_writes_its_records_and_needs_all_of_ds2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REHEARSAL_S", 30.0)
    source = find_records(asked(tmp_path, synthetic=True)).developments["mitdb"]
    assert source.folders[0] == tmp_path / "data" / "rehearsal"
    assert (source.kind, source.records) == ("synthetic", DS1)
    for file in files_of(["103"]):
        (source.folders[0] / file).unlink()
    with pytest.raises(MissingDataError, match="103: no .hea or .dat or .atr file"):
        find_records(asked(tmp_path, source.folders[0], synthetic=True))
