from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from study.data.catalogue import DS1, DS2
from study.data.fetch import files_of, sha256_of
from study.data.prepare import prepare_all
from study.data.synthetic import MANIFEST, write_records
from study.errors import ChecksumError, DataError, MissingDataError, UsageError
from study.sealed import records as module
from study.sealed.records import Records, mitdb_records, read_ds2, synthetic_records


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
    monkeypatch.setattr("study.data.fetch.published_checksums", lambda *_: sums)
    monkeypatch.delenv("MITDB_DIR", raising=False)
    return Path(shutil.copytree(all_of_mitdb, tmp_path / "mitdb"))


def test_ds2_is_known_by_name_and_hash(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = mitdb_records(published, tmp_path)
    assert (records.source.kind, records.source.records) == ("mitdb", DS1)
    assert sorted(records.ds2) == sorted(files_of(DS2))
    assert records.ds2["100.dat"] == sha256_of(published / "100.dat")
    assert records.ds2_patients["202"] == records.source.patients["201"] == "201"
    changed = replace(records, ds2={**records.ds2, "100.atr": "other"})
    assert changed.ds2_digest != records.ds2_digest
    monkeypatch.setenv("MITDB_DIR", str(published))
    assert mitdb_records(None, tmp_path).source.folders[0] == published


def test_a_workspace_that_has_all_files_downloads_nothing(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Path, tuple[str, ...]]] = []
    monkeypatch.setattr(module, "download_records", lambda _, f, names: asked.append((f, names)))
    own = tmp_path / "data" / "mitdb"
    own.parent.mkdir()
    published.rename(own)
    assert mitdb_records(None, tmp_path).source.folders[0] == own
    # What is there is verified and kept; what is not would be fetched, DS2 included.
    assert asked == [(own, (*DS1, *DS2))]


def test_a_folder_without_ds2_or_with_an_edited_file_of_it_is_refused(
    published: Path, tmp_path: Path
) -> None:
    marks = published / "234.atr"
    whole = marks.read_bytes()
    marks.write_bytes(b"edited")
    edited = "needs DS2.*234.atr: has SHA-256 .* damaged or edited"
    with pytest.raises(ChecksumError, match=edited):
        mitdb_records(published, tmp_path)
    marks.write_bytes(whole)
    for file in files_of(DS2[:2]):
        (published / file).unlink()
    with pytest.raises(MissingDataError, match=r"needs DS2.*100.atr and 3 more \(6 in all\)"):
        mitdb_records(published, tmp_path)


def test_synthetic_records_are_no_mitdb_and_real_ones_no_rehearsal(
    halves: Path, published: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="synthetic records, and a sealed test is on MIT-BIH"):
        mitdb_records(halves, tmp_path)
    with pytest.raises(UsageError, match=r"does not hold synthetic records \(synthetic.json is"):
        synthetic_records(published, tmp_path)
    # What says that they are synthetic does not make them so: their content is what counts.
    shutil.copy(halves / MANIFEST, published)
    with pytest.raises(UsageError, match=r"101.hea is 101.hea of MIT-BIH, and a rehearsal is on"):
        synthetic_records(published, tmp_path)
    for file in files_of((*DS1, *DS2[1:])):
        shutil.copy(halves / "103.dat", published / file)
    with pytest.raises(UsageError, match=r"100.hea is 100.hea of MIT-BIH"):
        synthetic_records(published, tmp_path)


def test_a_rehearsal_writes_its_records_and_needs_all_of_ds2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REHEARSAL_S", 30.0)
    source = synthetic_records(None, tmp_path).source
    assert source.folders[0] == tmp_path / "data" / "rehearsal"
    assert (source.kind, source.records) == ("synthetic", DS1)
    for file in files_of(["103"]):
        (source.folders[0] / file).unlink()
    with pytest.raises(MissingDataError, match="103: no .hea or .dat or .atr file"):
        synthetic_records(source.folders[0], tmp_path)


def test_each_half_is_read_and_cached_by_itself(records: Records, tmp_path: Path) -> None:
    cut, cache_dir = ("beat", "antialiased"), tmp_path / "beats"
    ds1 = prepare_all(records.source, [cut], cache_dir=cache_dir, study_seed=0)[cut]
    assert (ds1.dataset, ds1.record_names) == ("DS1", records.source.records)
    ds2 = read_ds2(records, [cut], cache_dir=cache_dir, study_seed=0)[cut]
    assert (ds2.dataset, ds2.record_names) == ("DS2", DS2)
    assert {path.parent.name for path in cache_dir.rglob("*.beats")} == {"DS1", "DS2"}
