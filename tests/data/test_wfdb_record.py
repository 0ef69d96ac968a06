"""Reading one record: what is returned, and one clear error for each way it can be bad."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from study.data.catalogue import LEADS
from study.data.wfdb_record import MITDB_RULES, ReadingRules, read_record
from study.errors import ChecksumError, DataError, MissingDataError, NoBeatsError
from tests.builders import write_record

ANY_RATE = ReadingRules(sampling_rate_hz=None)
CODES = {"N": 1, "V": 5, "A": 8, "+": 28}


def marks(text: str) -> bytes:
    """Encode annotations such as `18N 90+` in the MIT format, in whatever order they are given."""
    content, now = b"", 0
    for mark in text.split():
        sample, symbol = int(mark[:-1]), mark[-1]
        skip = sample - now
        # A SKIP (59) carries any interval, even a negative one: two words, the high one first.
        content += struct.pack("<HhH", 59 << 10, skip >> 16, skip & 0xFFFF)
        content += struct.pack("<H", CODES[symbol] << 10)
        now = sample
    return content + b"\0\0"


def test_signal_and_beats_are_returned_as_written(tmp_path: Path) -> None:
    write_record(tmp_path, "a")
    (tmp_path / "a.atr").write_bytes(marks("5+ 180N 200+ 468V 756A"))
    record = read_record(tmp_path, "a")
    assert (record.name, record.lead) == ("a", "MLII")
    assert record.signal_mv.dtype == np.float32
    assert record.signal_mv.shape == (3600,)
    np.testing.assert_allclose(record.signal_mv[[180, 468, 756]], 1.0, atol=1e-3)
    assert record.beat_samples.tolist() == [180, 468, 756]
    assert record.beat_symbols.tolist() == ["N", "V", "A"]
    assert record.other_annotations == {"+": 2}


@pytest.mark.parametrize("leads", ["V5 MLII", "V5 V1", "V4 V2", "V5 V4", "aVR V5", "MLII V1"])
def test_lead_is_chosen_by_name(tmp_path: Path, leads: str) -> None:
    """Channels differ in height: the second one is 2 mV high."""
    write_record(tmp_path, "a", leads=leads.split())
    record = read_record(tmp_path, "a")
    assert record.lead == min(set(leads.split()) & set(LEADS), key=LEADS.index)
    height_mv = 1 + leads.split().index(record.lead)
    assert record.signal_mv.max() == pytest.approx(height_mv, abs=1e-3)


@pytest.mark.parametrize("rate_hz", [128, 257, 499.5, 1000])
def test_r_peaks_move_with_the_resampled_signal(tmp_path: Path, rate_hz: float) -> None:
    samples = write_record(tmp_path, "a", rate_hz=rate_hz, duration_s=60.0)
    write_record(tmp_path, "b", duration_s=60.0)
    record, usual = (read_record(tmp_path, name, rules=ANY_RATE) for name in "ab")
    assert len(record.signal_mv) == pytest.approx(60 * 360, abs=1)
    np.testing.assert_allclose(record.beat_samples, samples * 360 / rate_hz, atol=1)
    # The peak itself, to the last beat: an index that drifts would leave it.
    around = record.signal_mv[record.beat_samples[:, None] + np.arange(-20, 21)]
    np.testing.assert_allclose(around.argmax(axis=1), 20, atol=1)
    n = min(len(record.signal_mv), len(usual.signal_mv))
    np.testing.assert_allclose(record.signal_mv[:n], usual.signal_mv[:n], atol=0.03)


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_signal_is_in_millivolts(tmp_path: Path, unit: str, factor: float) -> None:
    write_record(tmp_path, "a", unit=unit)
    assert read_record(tmp_path, "a").signal_mv.max() == pytest.approx(factor, rel=1e-3)


HEADERS = {
    "no length": (r"3600", ""),
    "length 0": (r"3600", "0"),
    "a time": (r"3600", "3600 12:30:05.123 01/02/2020"),
    "an ISO date": (r"3600", "3600 12:30:05 2020-01-15"),
    "a bare year": (r"3600", "3600 12:30:05 2020"),
    "no length, a date": (r"3600", "0 0:0:0 15.1.2020"),
    "a comment before": (r"^a 2", "# made by hand\na 2"),
    "sums not computed": (r"-?\d+ 0 (MLII|V1)", r"0 0 \1"),
    "lead in lower case": (r"MLII", "mlii"),
}
"""What the specification of headers allows, as what is replaced in one by what."""


@pytest.mark.parametrize("case", HEADERS)
def test_headers_mean_what_their_specification_says(tmp_path: Path, case: str) -> None:
    write_record(tmp_path, "a")
    usual, path = read_record(tmp_path, "a"), tmp_path / "a.hea"
    header = re.sub(*HEADERS[case], path.read_text())
    assert header != path.read_text()
    path.write_text(header)
    record = read_record(tmp_path, "a")
    assert record.lead == "MLII"
    np.testing.assert_array_equal(record.signal_mv, usual.signal_mv)
    np.testing.assert_array_equal(record.beat_samples, usual.beat_samples)


def test_skewed_signals_begin_later_and_keep_their_sum(tmp_path: Path) -> None:
    write_record(tmp_path, "a")
    usual, path = read_record(tmp_path, "a"), tmp_path / "a.hea"
    path.write_text(path.read_text().replace("a.dat 16 ", "a.dat 16:3 ", 1))
    record = read_record(tmp_path, "a")
    np.testing.assert_array_equal(record.signal_mv, usual.signal_mv[3:])
    with (tmp_path / "a.dat").open("r+b") as file:
        file.write(b"\x07")
    with pytest.raises(ChecksumError):
        read_record(tmp_path, "a")


@pytest.mark.parametrize("counted_hz", [None, 90, 360])
def test_a_lead_may_have_several_samples_a_frame(tmp_path: Path, counted_hz: int | None) -> None:
    """16x4 at 90 frames a second is a lead at 360 Hz; its annotations count frames or samples."""
    write_record(tmp_path, "a", leads=("MLII",))
    usual, path = read_record(tmp_path, "a"), tmp_path / "a.hea"
    header = path.read_text().replace("a 1 360 3600", "a 1 90 900")
    path.write_text(header.replace("a.dat 16 ", "a.dat 16x4 "))
    beats = np.array([45, 117, 189]) * (4 if counted_hz == 360 else 1)
    wfdb.wrann("a", "atr", beats, symbol=["N"] * 3, fs=counted_hz, write_dir=str(tmp_path))
    record = read_record(tmp_path, "a")
    np.testing.assert_array_equal(record.signal_mv, usual.signal_mv)
    assert record.beat_samples.tolist() == [180, 468, 756]


SEGMENTS = {
    "fixed": "m/2 2 360 3600\ns1 1800\ns2 1800\n",
    "variable": "m/5 3 360 5400\nm_layout 0\ns1 1800\n~ 900\nv5 900\ns2 1800\n",
}
"""Headers of records that join segments; the second has a gap and a segment without MLII."""


@pytest.mark.parametrize("layout", SEGMENTS)
def test_segments_are_joined_as_wfdb_joins_them(tmp_path: Path, layout: str) -> None:
    """What no segment has is no signal; the annotations are those of the whole."""
    whole = np.random.default_rng(0).normal(size=(3600, 2))
    for name, leads, part in (
        ("s1", "MLII V1", whole[:1800]),
        ("s2", "MLII V1" if layout == "fixed" else "V1 MLII", whole[1800:]),
        ("v5", "V5 V1", whole[:900]),
    ):
        order = [0, 1] if leads.startswith("MLII") else [1, 0]
        write_record(tmp_path, name, leads=leads.split(), signal=part[:, order])
    lines = [f"~ 0 1000/mV 16 0 0 0 0 {lead}" for lead in ("MLII", "V1", "V5")]
    (tmp_path / "m_layout.hea").write_text("\n".join(["m_layout 3 360 0", *lines, ""]))
    (tmp_path / "m.hea").write_text(SEGMENTS[layout])
    (tmp_path / "m.atr").write_bytes(marks("180N 1950V 3500A"))
    record = read_record(tmp_path, "m")
    joined = wfdb.rdrecord(str(tmp_path / "m")).p_signal[:, 0]
    known = np.isfinite(joined)
    assert len(record.signal_mv) == len(joined)
    assert known.sum() == 3600
    np.testing.assert_allclose(record.signal_mv[known], joined[known], atol=1e-6)
    assert (record.lead, record.beat_samples.tolist()) == ("MLII", [180, 1950, 3500])
    np.testing.assert_array_equal(record.no_signal, ~known)
    (tmp_path / "s2.hea").write_text((tmp_path / "s2.hea").read_text().replace("1800", "1799"))
    with pytest.raises(DataError, match=r"m\.hea: its segment s2 must have 1800 samples at 360"):
        read_record(tmp_path, "m")


Change = bytes | int | str | None

DAMAGED: dict[str, tuple[dict[str, Change], type[DataError], str, str]] = {
    "no record": ({".hea": None, ".atr": None}, MissingDataError, "a", "no .hea or .atr file"),
    "no header": ({".hea": None}, MissingDataError, "a", "no .hea file"),
    "no annotations": ({".atr": None}, MissingDataError, "a", "no .atr file"),
    "no signal": ({".dat": None}, MissingDataError, "a.dat", "its header names it"),
    "garbage": ({".hea": b"<html>404</html>\n"}, DataError, "a.hea", "its number of signals"),
    "no segment": (
        {".hea": b"a/2 2 360 3600\n~ 1800\nc 1800\n"},
        *(MissingDataError, "a.hea", "its segment c has no .hea file"),
    ),
    "few segments": (
        {".hea": b"a/3 2 360 3600\n~ 1800\n~ 1700\n"},
        *(DataError, "a.hea", "promises 3 segments of 3600 samples together, got 2 of 3500"),
    ),
    "a gap alone": ({".hea": b"a/1 2 360 3600\n~ 3600\n"}, DataError, "a.hea", "got none"),
    "segment of itself": (
        {".hea": b"a/1 2 360 3600\na 3600\n"},
        *(DataError, "a.hea", "its segment a may not join segments itself"),
    ),
    "segment elsewhere": (
        {".hea": b"a/1 2 360 3600\n../a 3600\n"},
        *(DataError, "a.hea", "then a line a signal or segment"),
    ),
    "no leads": ({".hea": b"a 0 360 3600\n"}, DataError, "a.hea", "got none"),
    "signal truncated": (
        {".dat": 14_000},
        *(DataError, "a.dat", "promises 3600 samples = 14400 bytes, got 14000; fetch the file"),
    ),
    "signal altered": ({".dat": "bit"}, ChecksumError, "a.dat", "one of the two files is damaged"),
    "annotations truncated": ({".atr": 8}, DataError, "a.atr", "its end mark is missing"),
    "no annotation": ({".atr": marks("")}, NoBeatsError, "a.atr", "no beats among 0 annotations"),
    "no beats": ({".atr": marks("18+ 90+")}, NoBeatsError, "a.atr", "no beats among 2"),
    "beats beyond": ({".atr": marks("18N 3600N 3700N")}, DataError, "a.atr", "2 of 3 beats are"),
    "out of order": (
        {".atr": marks("18N 900N 400V 1200N")},
        *(DataError, "a.atr", "sample 400 follows sample 900"),
    ),
    "one sample": ({".atr": marks("18N 400N 400A")}, DataError, "a.atr", "sample 400"),
}
"""New content of files, the bytes that stay, None where it is deleted; the error, the file that
it names and a part of what it says."""


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_record_is_one_clear_error(tmp_path: Path, case: str) -> None:
    changes, kind, file, fault = DAMAGED[case]
    write_record(tmp_path, "a")
    for suffix, change in changes.items():
        path = tmp_path / f"a{suffix}"
        content = bytearray(path.read_bytes())
        path.unlink()
        if change is not None:
            content[800:801] = [content[800] ^ 1] if change == "bit" else content[800:801]
            content = content[:change] if isinstance(change, int) else content
            path.write_bytes(change if isinstance(change, bytes) else content)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, "a")
    assert (type(caught.value), caught.value.where) == (kind, tmp_path / file)
    assert fault in caught.value.fault
    assert str(caught.value) == f"{tmp_path / file}: {caught.value.fault}"


def test_one_odd_mark_or_sample_costs_no_record(tmp_path: Path) -> None:
    """A beat at the sample behind the last, marks far behind it, and three samples missing."""
    signal_of_lead = np.sin(np.arange(3600) / 9)
    signal = np.stack([signal_of_lead] * 2, axis=1)
    signal[500:503] = np.nan
    write_record(tmp_path, "a", signal=signal)
    (tmp_path / "a.atr").write_bytes(marks("18N 400N 700N 1000N 3600N 9999+"))
    record = read_record(tmp_path, "a")
    assert record.beat_samples.tolist() == [18, 400, 700, 1000, 3600]
    assert record.other_annotations == {"+": 1}
    assert np.flatnonzero(record.no_signal).tolist() == [500, 501, 502]
    np.testing.assert_allclose(record.signal_mv[500:503], signal_of_lead[500:503], atol=0.02)


@pytest.mark.parametrize("rate_hz", [257, 360, 1000])
def test_two_seconds_of_equal_samples_are_no_signal(tmp_path: Path, rate_hz: int) -> None:
    signal = np.random.default_rng(0).normal(size=(10 * rate_hz, 2))
    signal[rate_hz : 3 * rate_hz] = 0.25
    signal[5 * rate_hz : 7 * rate_hz - 1] = 0.25
    write_record(tmp_path, "a", rate_hz=rate_hz, signal=signal)
    no_signal = read_record(tmp_path, "a", rules=ANY_RATE).no_signal
    assert len(no_signal) == pytest.approx(3600, abs=1)
    assert no_signal.sum() == pytest.approx(720, abs=2)
    assert no_signal[362:1078].all()


WAVES = np.sin(np.arange(7200.0)).reshape(3600, 2)
UNSUITABLE: dict[str, tuple[dict[str, Any], ReadingRules, str]] = {
    "no samples": ({"signal": WAVES * np.nan}, MITDB_RULES, "MLII has only missing samples"),
    "constant": ({"signal": WAVES * 0 + 0.25}, MITDB_RULES, "lead MLII is constant"),
    "rate of MIT-BIH": ({"rate_hz": 250}, MITDB_RULES, "must be 360 Hz, got 250 Hz"),
    "leads of MIT-BIH": (
        {"leads": ("V3", "aVR")},
        *(MITDB_RULES, "best first: MLII, V1, V2, V4, V5; got V3, aVR"),
    ),
    "leads of one's own": (
        {"leads": ("V3", "aVR")},
        *(ReadingRules(leads=("II",), sampling_rate_hz=None), "aVR; a split file names one lead"),
    ),
    "unit": ({"unit": "mmHg"}, MITDB_RULES, "is in 'mmHg'; known: mV, uV, µV, V"),
}


@pytest.mark.parametrize("case", UNSUITABLE)
def test_unsuitable_record_is_refused(tmp_path: Path, case: str) -> None:
    made, rules, fault = UNSUITABLE[case]
    write_record(tmp_path, "a", **made)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, "a", rules=rules)
    assert fault in caught.value.fault
    assert caught.value.where == tmp_path / ("a.dat" if "signal" in made else "a.hea")


@pytest.mark.data
def test_real_records_of_which_something_is_odd(mitdb_dir: Path) -> None:
    """PhysioNet: V5 is channel 0 and MLII channel 1 in record 114 alone; 207 has flutter waves."""
    record = read_record(mitdb_dir, "114")
    assert record.lead == "MLII"
    assert record.signal_mv.shape == (650_000,)
    # The first sample that the header states for MLII: 1027 units, 1024 is zero, 200 are 1 mV.
    assert record.signal_mv[0] == pytest.approx((1027 - 1024) / 200)
    assert read_record(mitdb_dir, "207").other_annotations["!"] == 472
