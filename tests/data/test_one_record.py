"""One record to be classified: with its own beats or with detected ones, and what stays sealed."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study.data.annotations import AAMI, read_annotations
from study.data.one_record import DETECTOR, OneRecord, find_r_peaks, read_one
from study.data.prepare import prepare
from study.data.source import Source, synthetic_source
from study.data.synthetic import write_records
from study.data.wfdb_record import ReadingRules, read_lead
from study.errors import DataError, MissingDataError
from tests.builders import pass_for, write_record


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """One synthetic record, as the source of a study."""
    return synthetic_source(tmp_path_factory.mktemp("one"), duration_s=60, names=("208",))


@pytest.fixture(scope="module")
def one(source: Source) -> OneRecord:
    return read_one(source.folders[0] / "208")


@pytest.fixture
def bare(source: Source, tmp_path: Path) -> Path:
    for suffix in (".hea", ".dat"):
        shutil.copy(source.folders[0] / f"208{suffix}", tmp_path)
    return tmp_path


def test_beats_are_those_of_a_study_and_q(source: Source, one: OneRecord, tmp_path: Path) -> None:
    studied = prepare(source, "daeac", "linear", cache_dir=tmp_path)
    beats = one.beats(("daeac", "linear"))
    assert one.annotated is not None
    kept = one.annotated[one.left_out == ""]
    assert len(kept) == len(beats.label)
    known = kept != "Q"
    np.testing.assert_array_equal(beats.ecg[known], studied.ecg)
    for name, rows in studied.rr.items():
        np.testing.assert_array_equal(beats.rr[name][known], rows)
    assert one.left_out[[0, -1]].tolist() == ["first or last beat"] * 2
    assert set(one.left_out.tolist()) <= {"", "first or last beat", "window leaves record"}
    assert (one.left_out == "").mean() > 0.9


@pytest.mark.parametrize(
    ("suffix", "symbol", "found_by"),
    [("atr", "V", ""), ("ecg", "V", ""), ("qrs", "N", "the detector that wrote 208.qrs")],
)
def test_labels_take_no_part(
    one: OneRecord, bare: Path, suffix: str, symbol: str, found_by: str
) -> None:
    wfdb.wrann("208", suffix, one.samples, symbol=[symbol] * len(one.samples), write_dir=str(bare))
    other = read_one(bare / "208")
    assert (other.found_by, other.annotated is None) == (found_by, bool(found_by))
    np.testing.assert_array_equal(other.left_out, one.left_out)
    cut = ("beat", "antialiased")
    np.testing.assert_array_equal(other.beats(cut).ecg, one.beats(cut).ecg)


def test_r_peaks_are_found_where_no_beats_are_annotated(source: Source, bare: Path) -> None:
    record = read_one(bare / "208")
    assert record.annotated is None
    assert len(record.samples) > 40
    wfdb.wrann("208", "atr", np.array([18]), symbol=["+"], aux_note=["(N"], write_dir=str(bare))
    for other in (read_one(bare / "208"), read_one(source.folders[0] / "208", detect=True)):
        assert other.annotated is None
        np.testing.assert_array_equal(other.samples, record.samples)
        assert other.found_by == DETECTOR
        assert len(other.beats(("daeac", "linear")).label) == (other.left_out == "").sum()


def test_beats_annotated_twice_are_taken_once(tmp_path: Path) -> None:
    """Within 0.2 s, which are 100 samples at 500 Hz."""
    samples = write_record(tmp_path, "a", rate_hz=500)
    both = np.sort(np.concatenate([samples, samples[4:5] + 90]))
    symbols = ["N"] * len(both)
    symbols[5] = "V"
    wfdb.wrann("a", "atr", both, symbol=symbols, write_dir=str(tmp_path))
    record = read_one(tmp_path / "a")
    np.testing.assert_array_equal(record.samples, samples)
    assert record.annotated is not None
    assert (record.annotated[4], record.left_out[4], len(record.doubled)) == ("Q", "", 1)
    intervals_ms = record.beats(("beat", "linear")).rr["published7"][:, :2]
    assert intervals_ms == pytest.approx(np.full_like(intervals_ms, 800))


def test_records_of_mitbih_are_told_under_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(tmp_path, "mine")
    (tmp_path / "mine.atr").unlink()
    pass_for(monkeypatch, tmp_path / "mine.dat", "208.dat")
    assert read_one(tmp_path / "mine").in_ds1
    pass_for(monkeypatch, tmp_path / "mine.dat", "100.dat")
    with pytest.raises(DataError, match=r"mine\.dat: is 100\.dat of MIT-BIH's DS2, .* sealed"):
        read_one(tmp_path / "mine")


def test_a_record_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=rf"^{tmp_path}/a: no \.hea file$"):
        read_one(tmp_path / "a")
    write_record(tmp_path, "a", duration_s=1.2)
    with pytest.raises(DataError, match="^record a: no beat can be used; left out, by record: "):
        read_one(tmp_path / "a").beats(("beat", "linear"))


RULES = ReadingRules(leads=("MLII",), sampling_rate_hz=None)


@pytest.mark.parametrize("rate_hz", [128, 257, 360])
def test_r_peaks_are_found_where_they_are_annotated(tmp_path: Path, rate_hz: int) -> None:
    """Wide premature beats included, and whatever the height of the lead."""
    write_records(tmp_path, names=("101", "208"), duration_s=60, sampling_rate_hz=rate_hz)
    for name in ("101", "208"):
        lead = read_lead(tmp_path, name, rules=RULES)
        truth = read_annotations(tmp_path, name)
        for height in (1.0, 0.1):
            found = find_r_peaks(replace(lead, signal_mv=lead.signal_mv * np.float32(height)))
            distance_s = np.abs(truth.beat_samples[:, None] - found).min(axis=1) / rate_hz
            hit = distance_s < 0.02
            is_v = np.array([AAMI[symbol] == "V" for symbol in truth.beat_symbols.tolist()])
            assert is_v.sum() >= 2
            assert hit.mean() > 0.9
            assert hit[is_v].mean() > 0.8
            assert len(found) < 1.05 * len(hit)


def test_a_gap_longer_than_the_rest_hides_no_r_peaks(source: Source) -> None:
    """A gap is interpolated; its slope must not be what a lead's height is measured by."""
    lead = read_lead(source.folders[0], "208", rules=RULES)
    slope = np.linspace(lead.signal_mv[-1], lead.signal_mv[-1] + 1, 2 * len(lead.signal_mv))
    joined = replace(
        lead,
        signal_mv=np.append(lead.signal_mv, slope.astype(np.float32)),
        no_signal=np.append(lead.no_signal, np.ones(len(slope), np.bool_)),
    )
    np.testing.assert_array_equal(find_r_peaks(joined), find_r_peaks(lead))


def test_a_signal_without_beats_is_one_clear_error(source: Source) -> None:
    lead = read_lead(source.folders[0], "208", rules=RULES)
    slow = np.sin(np.arange(40) / 500) + 1e-6 * np.random.default_rng(0).standard_normal(40)
    with (
        warnings.catch_warnings(action="ignore"),
        pytest.raises(DataError, match=r"^record 208: no beats were found by GQRS .* in MLII"),
    ):
        find_r_peaks(replace(lead, signal_mv=slow.astype(np.float32)))
