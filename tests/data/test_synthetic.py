"""Synthetic records: whole or rewritten, in the format of MIT-BIH, with every class."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from study.data.annotations import AAMI
from study.data.catalogue import DS1
from study.data.fetch import sha256_of
from study.data.folds import make_folds
from study.data.source import Source
from study.data.synthetic import MANIFEST, write_records
from study.data.wfdb_record import Record, read_record
from study.errors import DataError
from study.keys import CLASSES

NAMES = ("101", "114")


@pytest.fixture(scope="module")
def records(records_source: Source) -> list[Record]:
    return [read_record(records_source.folders[0], name) for name in records_source.records]


def classes_of(record: Record) -> NDArray[np.str_]:
    return np.array([AAMI[symbol] for symbol in record.beat_symbols.tolist()])


def test_whole_records_are_kept_and_anything_else_is_written_anew(tmp_path: Path) -> None:
    sums = write_records(tmp_path, names=NAMES, duration_s=60)
    path = tmp_path / "101.dat"
    before = path.stat().st_mtime_ns
    assert write_records(tmp_path, names=NAMES, duration_s=60) == sums
    assert path.stat().st_mtime_ns == before

    path.write_bytes(path.read_bytes()[:-100])
    assert write_records(tmp_path, names=NAMES, duration_s=60) == sums
    assert sha256_of(path) == sums["101.dat"]

    long = write_records(tmp_path, names=NAMES, duration_s=90)
    assert sums["101.dat"] != long["101.dat"]
    assert json.loads((tmp_path / MANIFEST).read_text())["duration_s"] == 90
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*long, MANIFEST])


def test_what_is_not_overwritten_and_not_written(tmp_path: Path) -> None:
    (tmp_path / "101.hea").write_text("101 2 360 650000\n")
    for manifest in (None, "{"):
        if manifest:
            (tmp_path / MANIFEST).write_text(manifest)
        with pytest.raises(DataError) as caught:
            write_records(tmp_path)
        assert caught.value.fault == "holds records that are not synthetic; give another folder"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["101.hea", MANIFEST]
    with pytest.raises(DataError, match=r"^duration_s must be at least 30 s, got 5 s$"):
        write_records(tmp_path / "new", duration_s=5)
    assert not (tmp_path / "new").exists()


def test_records_are_in_the_format_of_mitbih(records_source: Source) -> None:
    """As in the real one, the lead of 114 is the second."""
    for name, leads in {"208": ["MLII", "V1"], "114": ["V1", "MLII"]}.items():
        header = (records_source.folders[0] / f"{name}.hea").read_text().splitlines()
        assert header[0] == f"{name} 2 360 43200"
        assert [line.split()[1] for line in header[1:3]] == ["212", "212"]
        assert [line.split()[-1] for line in header[1:3]] == leads
        assert header[3] == "# Synthetic: no person's ECG."
        assert read_record(records_source.folders[0], name).lead == "MLII"


def test_every_record_and_fold_has_every_class(records: list[Record]) -> None:
    """A class counts in a fold from 10 beats on (see `study.training.scores`)."""
    assert tuple(record.name for record in records) == DS1
    counts = np.array([[np.sum(classes_of(r) == name) for name in CLASSES] for r in records])
    assert counts.min() >= 2
    assert (counts[:, 0] > 0.5 * counts.sum(axis=1)).all()
    assert min(sum(record.other_annotations.values()) for record in records) >= 3
    assert any("Q" in classes_of(record) for record in records)
    folds = make_folds(DS1, counts, patients=dict(zip(DS1, DS1, strict=True)))
    for names in folds.validation:
        assert counts[[DS1.index(name) for name in names]].sum(axis=0).min() >= 10
