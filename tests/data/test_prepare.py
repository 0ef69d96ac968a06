"""From records to beat sets: what is in them, and when the cache may stand in."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from study.config import LATE_RR_WIDTH, PUBLISHED_RESAMPLING
from study.data import prepare as module
from study.data.annotations import AAMI
from study.data.beat_set import BeatSet
from study.data.catalogue import DS1
from study.data.prepare import prepare, prepare_all
from study.data.rr import rr_features
from study.data.source import Source, find_source, synthetic_source
from study.data.wfdb_record import ReadingRules, Record, read_record
from study.data.windows import band_pass, cut_windows
from study.errors import DataError
from study.keys import CLASSES
from tests.builders import assert_same_beats

CUTS = sorted(PUBLISHED_RESAMPLING.items())
BESIDE_TEMPLATE = ("daeac", "linear", "trailing")
Sets = dict[tuple[str, ...], BeatSet]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("few")
    return synthetic_source(folder, duration_s=60, names=("106", "101", "208"))


@pytest.fixture(scope="module")
def sets(few: Source, tmp_path_factory: pytest.TempPathFactory) -> Sets:
    cuts = [*CUTS, BESIDE_TEMPLATE]
    return prepare_all(few, cuts, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the records that are read from now on."""
    names: list[str] = []

    def noting(folder: Path, name: str, *, rules: ReadingRules) -> Record:
        names.append(name)
        return read_record(folder, name, rules=rules)

    monkeypatch.setattr("study.data.source.read_record", noting)
    return names


@pytest.mark.parametrize("cut", CUTS)
def test_arrays_of_a_beat_set(cut: tuple[str, ...], sets: Sets) -> None:
    """All segmentations share one list of beats; windows of daeac alone depend on RR."""
    beats, other = sets[cut], sets["daeac", "linear"]
    n = len(beats.label)
    assert (beats.segmentation, beats.resampling) == cut
    assert beats.record_names == ("101", "106", "208")
    assert beats.ecg.shape == (n, 128)
    for name, rows in beats.rr.items():
        width = LATE_RR_WIDTH.get(name) or LATE_RR_WIDTH[name.split("_")[0]]
        assert rows.shape == (n, width)
        assert np.isfinite(rows).all()
    in_time = np.diff(beats.r_peak_sample) > 0
    assert (in_time | (np.diff(beats.record) == 1)).all()
    assert (beats.reliance.windows is not None) == (cut[0] == "daeac")
    for name in ("record", "r_peak_sample", "label", "rr", "dropped"):
        np.testing.assert_equal(getattr(beats, name), getattr(other, name))
    for name in ("beats", "donors"):
        np.testing.assert_equal(getattr(beats.reliance, name), getattr(other.reliance, name))


def test_kept_and_dropped_beats_are_all_beats(few: Source, sets: Sets) -> None:
    beats = sets["beat", "antialiased"]
    for r, name in enumerate(beats.record_names):
        record = read_record(few.folders[0], name)
        kept = beats.record == r
        assert kept.sum() + sum(beats.dropped[name].values()) == len(record.beat_samples)
        assert beats.dropped[name]["first or last beat"] == 2
        # Labels and RR are those of the annotation at the same sample, RR over all beats.
        at = np.searchsorted(record.beat_samples, beats.r_peak_sample[kept])
        symbols = [AAMI[symbol] for symbol in record.beat_symbols[at].tolist()]
        assert [CLASSES[label] for label in beats.label[kept]] == symbols
        expected = rr_features(record.beat_samples, 360)["published7"][at]
        np.testing.assert_array_equal(beats.rr["published7"][kept], expected)


def test_recut_starts_inside(few: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_pauses(folder: Path, name: str, **_: object) -> object:
        record = read_record(folder, name)
        keep = (record.beat_samples < 10 * 360) | (np.arange(len(record.beat_samples)) % 5 == 0)
        symbols = record.beat_symbols[keep]
        return replace(record, beat_samples=record.beat_samples[keep], beat_symbols=symbols)

    monkeypatch.setattr("study.data.source.read_record", with_pauses)
    beats = prepare(few, "daeac", "linear", cache_dir=tmp_path)
    windows = beats.reliance.windows
    assert windows is not None
    r_peak = beats.r_peak_sample[beats.reliance.beats]
    donor_rr = np.rint(beats.rr["published7"][beats.reliance.donors, 0] * 0.36).astype(np.int64)
    too_early = (r_peak - donor_rr + 50 < 0) & (beats.record[beats.reliance.beats] == 1)
    assert too_early.any()
    signal = band_pass(read_record(few.folders[0], "106").signal_mv)
    for p, m in np.argwhere(too_early):
        whole = cut_windows(signal, np.array([0]), r_peak[[m]] + 101, "linear")
        np.testing.assert_allclose(windows[p, m], whole[0], atol=1e-6)


def test_second_time_is_cached(few: Source, sets: Sets, tmp_path: Path, reads: list[str]) -> None:
    for read in (["101", "106", "208"], []):
        again = prepare_all(few, sets, cache_dir=tmp_path)
        assert sorted(reads) == read
        reads.clear()
        for cut in sets:
            assert_same_beats(again[cut], sets[cut])
    assert {path.parent.name for path in tmp_path.rglob("*.beats")} == {"DS1"}
    (path,) = tmp_path.rglob("beat-*.beats")
    path.write_bytes(path.read_bytes()[:-100])
    for _ in range(2):
        assert_same_beats(prepare(few, *CUTS[0], cache_dir=tmp_path), sets[CUTS[0]])
        assert len(reads) == 3


def _with(source: Source, **changes: Any) -> Source:
    origin = replace(source.origins["101"], **changes)
    return replace(source, origins=dict.fromkeys(source.records, origin))


def _edited(source: Source) -> Source:
    return replace(source, checksums={**source.checksums, "101.atr": "0" * 64})


CHANGES: dict[str, tuple[Callable[[Source], Source], dict[str, Any], bool]] = {
    "a file": (_edited, {}, True),
    "kind": (lambda source: replace(source, kind="records"), {}, True),
    "data set": (lambda source: replace(source, dataset="mine"), {}, True),
    "rules": (lambda source: _with(source, rules=ReadingRules(leads=("MLII",))), {}, True),
    "segmentation": (lambda source: source, {"segmentation": "fixed"}, True),
    "resampling": (lambda source: source, {"resampling_method": "antialiased"}, True),
    "seed": (lambda source: source, {"study_seed": 1}, True),
    "preparation": (lambda source: source, {"PREPARATION": "another"}, True),
    "libraries": (lambda source: source, {"version": lambda _: "another"}, False),
}
"""What is changed, and whether the fingerprint is another then."""


@pytest.mark.parametrize("case", CHANGES)
def test_what_is_changed_is_prepared_anew(
    few: Source, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    change, other, changes_fingerprint = CHANGES[case]
    given: dict[str, Any] = {"segmentation": "beat", "resampling_method": "linear"}
    first = prepare(few, cache_dir=tmp_path, **given)
    reads.clear()
    for name in {"PREPARATION", "version"} & other.keys():
        monkeypatch.setattr(module, name, other[name])
    given |= {name: value for name, value in other.items() if not hasattr(module, name)}
    second = prepare(change(few), cache_dir=tmp_path, **given)
    assert len(reads) == 3
    assert (first.fingerprint != second.fingerprint) == changes_fingerprint


def test_bad_records_are_told_together_and_leave_no_file(few: Source, tmp_path: Path) -> None:
    folder = tmp_path / "records"
    shutil.copytree(few.folders[0], folder)
    os.truncate(folder / "106.dat", 1000)
    for damaged in ("106.dat: truncated", "2 faults"):
        with pytest.raises(DataError, match=damaged):
            prepare(_with(few, folder=folder), "beat", "linear", cache_dir=tmp_path / "cache")
        (folder / "208.atr").write_bytes(b"")
    assert not (tmp_path / "cache").exists()


def test_beat_sets_are_those_of_this_version_of_the_preparation(sets: Sets) -> None:
    """Where this fails because arrays change, give `PREPARATION` another text too."""
    assert {cut: beats.fingerprint for cut, beats in sets.items()} == {
        ("beat", "antialiased"): "b7c4b9521aa5",
        ("centred", "linear"): "77daeec0cec4",
        ("daeac", "linear"): "3527bbdb203e",
        ("fixed", "antialiased"): "20aafcdeac80",
        BESIDE_TEMPLATE: "a19289b1e0ae",
    }
    beats = sets["daeac", "linear"]
    # Whole numbers, and floats that no Fourier transform has rounded.
    exact: dict[str, NDArray[Any]] = {
        **{name: getattr(beats, name) for name in ("record", "r_peak_sample", "label")},
        **{"beats": beats.reliance.beats, "donors": beats.reliance.donors},
        # Logarithms may differ in the last bit between machines.
        **{name: rows for name, rows in beats.rr.items() if not name.startswith("log")},
    }
    digests = {name: hashlib.sha256(array.tobytes()) for name, array in exact.items()}
    assert {name: digest.hexdigest()[:12] for name, digest in digests.items()} == {
        "beats": "3d3589949a53",
        "donors": "7291fab68e27",
        "published7": "5fffd269aa14",
        "ratio7": "738a7345e4f9",
        "ratio2_so_far": "7c23085d5e35",
        "ratio2_record": "5d41f6c927a6",
        "causal": "734aa9107bee",
        "record": "4ed2a4179844",
        "r_peak_sample": "b99d8ec53284",
        "label": "223df10c1db6",
    }
    assert beats.reliance.windows is not None
    windows = [*(sets[cut].ecg for cut in CUTS), beats.reliance.windows]
    sums = [(ecg * np.random.default_rng(0).standard_normal(ecg.shape)).sum() for ecg in windows]
    assert sums == pytest.approx([-81.914, -214.530, 42.861, 103.251, 451.004], rel=1e-4)
    beside = sets[BESIDE_TEMPLATE]
    assert_same_beats(replace(beside, reference=None, fingerprint=beats.fingerprint), beats)
    reference = beside.reference
    assert reference is not None and reference.recut is not None
    new = [reference.deviation, reference.distances, reference.recut]
    logs = [rows for name, rows in beats.rr.items() if name.startswith("log")]
    sums = [
        (rows * np.random.default_rng(0).standard_normal(rows.shape)).sum()
        for rows in (*new, *logs)
    ]
    assert sums == pytest.approx([29.3591, 40.1735, 373.990, 3.20406, 0.249226, 5.34476], rel=1e-4)


@pytest.mark.data
def test_real_records(mitdb_dir: Path, tmp_path: Path) -> None:
    source = find_source(data_dirs=[mitdb_dir], workspace=tmp_path)
    assert (source.verified, len(source.checksums)) == (True, 66)
    assert list(tmp_path.iterdir()) == []
    beats = prepare(source, "daeac", "linear", cache_dir=tmp_path)
    assert beats.record_names == DS1
    # 45866, 944, 3788, 415 annotations; all but 44 of the first and last beats, 13 at the ends.
    # Record 207 has five gaps, 7 to 100 s long, most of them where its ventricles flutter.
    assert beats.counts.sum(axis=0).tolist() == [45804, 943, 3785, 414]
    assert [name for name in DS1 if "beside a gap" in beats.dropped[name]] == ["207"]
    assert beats.left_out == {
        **{"class Q": 8, "first or last beat": 44, "beside a gap": 10},
        "window leaves record": 13,
    }
    assert np.isfinite(beats.ecg).all()
    assert all(np.isfinite(rows).all() for rows in beats.rr.values())
