"""Reading one record: what is returned, and one clear error for each way it can be bad."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from study.data.wfdb_record import MITDB_RULES, ReadingRules, read_record
from study.errors import ChecksumError, DataError, MissingDataError, NoBeatsError

if TYPE_CHECKING:
    from tests.data.conftest import WriteRecord

ANY_RATE = ReadingRules(sampling_rate_hz=None)
CODES = {"N": 1, "V": 5, "A": 8, "+": 28}


def annotation_bytes(*annotations: tuple[int, str]) -> bytes:
    """Encode annotations in the MIT format, in whatever order they are given."""
    content, now = b"", 0
    for sample, symbol in annotations:
        skip = sample - now
        # A SKIP (59) carries any interval, even a negative one: two words, the high one first.
        content += struct.pack("<HhH", 59 << 10, skip >> 16, skip & 0xFFFF)
        content += struct.pack("<H", CODES[symbol] << 10)
        now = sample
    return content + b"\0\0"


def test_signal_and_beats_are_returned_as_written(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    samples = write_record(tmp_path, "a", symbols="NNAV")
    record = read_record(tmp_path, "a")
    assert (record.name, record.lead) == ("a", "MLII")
    assert (record.sampling_rate_hz, record.recorded_rate_hz) == (360, 360.0)
    assert record.signal_mv.dtype == np.float32
    assert record.signal_mv.shape == (3600,)
    np.testing.assert_allclose(record.signal_mv[samples], 1.0, atol=1e-3)
    np.testing.assert_array_equal(record.beat_samples, samples)
    assert "".join(record.beat_symbols[:5]) == "NNAVN"
    assert record.other_annotations == {}


@pytest.mark.parametrize(
    ("leads", "chosen", "height_mv"),
    [
        (("V5", "MLII"), "MLII", 2.0),
        (("V5", "V1"), "V1", 2.0),
        (("V4", "V2"), "V2", 2.0),
        (("V5", "V4"), "V4", 2.0),
        (("aVR", "V5"), "V5", 2.0),
        (("MLII", "V1"), "MLII", 1.0),
    ],
)
def test_lead_is_chosen_by_name(
    tmp_path: Path,
    write_record: WriteRecord,
    leads: tuple[str, str],
    chosen: str,
    height_mv: float,
) -> None:
    write_record(tmp_path, "a", leads=leads)
    record = read_record(tmp_path, "a")
    assert record.lead == chosen
    assert record.signal_mv.max() == pytest.approx(height_mv, abs=1e-3)


def test_marks_that_are_no_beats_are_counted_apart(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    write_record(tmp_path, "a")
    content = annotation_bytes((5, "+"), (100, "N"), (200, "+"), (300, "V"), (500, "N"))
    (tmp_path / "a.atr").write_bytes(content)
    record = read_record(tmp_path, "a")
    assert record.beat_samples.tolist() == [100, 300, 500]
    assert record.beat_symbols.tolist() == ["N", "V", "N"]
    assert record.other_annotations == {"+": 2}


@pytest.mark.parametrize("rate_hz", [128, 250, 257, 499.5, 1000])
def test_r_peaks_move_with_the_resampled_signal(
    tmp_path: Path, write_record: WriteRecord, rate_hz: float
) -> None:
    samples = write_record(tmp_path, "a", rate_hz=rate_hz, duration_s=120.0)
    record = read_record(tmp_path, "a", rules=ANY_RATE)
    assert record.recorded_rate_hz == rate_hz
    assert len(record.signal_mv) == pytest.approx(120 * 360, abs=1)
    np.testing.assert_allclose(record.beat_samples, samples * 360 / rate_hz, atol=1)
    # The peak itself, to the last beat: an index that drifts would leave it.
    around = record.signal_mv[record.beat_samples[:, None] + np.arange(-20, 21)]
    np.testing.assert_allclose(around.argmax(axis=1), 20, atol=1)


@pytest.mark.parametrize(("unit", "factor"), [("mV", 1.0), ("uV", 1e-3), ("V", 1e3)])
def test_signal_is_in_millivolts(
    tmp_path: Path, write_record: WriteRecord, unit: str, factor: float
) -> None:
    write_record(tmp_path, "a", unit=unit)
    assert read_record(tmp_path, "a").signal_mv.max() == pytest.approx(factor, rel=1e-3)


def _delete(*suffixes: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        for suffix in suffixes:
            (folder / f"a{suffix}").unlink()

    return damage


def _replace(suffix: str, content: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / f"a{suffix}").write_bytes(content)

    return damage


def _cut(suffix: str, n_bytes: int) -> Callable[[Path], None]:
    return lambda folder: _replace(suffix, (folder / f"a{suffix}").read_bytes()[:n_bytes])(folder)


def _flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "a.dat").read_bytes())
    content[800] ^= 1
    (folder / "a.dat").write_bytes(content)


def _directory(folder: Path) -> None:
    (folder / "a.atr").unlink()
    (folder / "a.atr").mkdir()


DAMAGED = {
    "no record": (
        _delete(".hea", ".atr", ".dat"),
        MissingDataError,
        "{folder}/a: no .hea or .atr file",
    ),
    "no header": (_delete(".hea"), MissingDataError, "{folder}/a: no .hea file"),
    "no annotations": (_delete(".atr"), MissingDataError, "{folder}/a: no .atr file"),
    "no signal": (
        _delete(".dat"),
        MissingDataError,
        "{folder}/a.dat: missing, though its header names it",
    ),
    "no file": (_directory, DataError, "{folder}/a.atr: must be a file that can be read"),
    "header is garbage": (
        _replace(".hea", b"<html>404</html>\n"),
        DataError,
        "{folder}/a.hea: cannot be read as a WFDB header: invalid syntax in record line",
    ),
    "header is empty": (
        _replace(".hea", b""),
        DataError,
        "{folder}/a.hea: cannot be read as a WFDB header: list index out of range",
    ),
    "header of segments": (
        _replace(".hea", b"a/2 2 360 3600\nb 1800\nc 1800\n"),
        DataError,
        "{folder}/a.hea: joins 2 segments; give the segments as records",
    ),
    "header without signals": (
        _replace(".hea", b"a 0 360 3600\n"),
        DataError,
        "{folder}/a.hea: must have a lead that is accepted, best first: MLII, V1, V2, V4, V5; "
        "got none",
    ),
    "signal truncated": (
        _cut(".dat", 14_000),
        DataError,
        "{folder}/a.dat: truncated: its header promises 3600 samples = 14400 bytes, got 14000; "
        "fetch the file again",
    ),
    "signal altered": (
        _flip_a_bit,
        ChecksumError,
        "{folder}/a.dat: the samples of lead MLII have checksum {got}, a.hea states {stated}; "
        "one of the two files is damaged",
    ),
    "annotations truncated": (
        _cut(".atr", 8),
        DataError,
        "{folder}/a.atr: truncated: its end mark is missing; fetch the file again",
    ),
    "annotations empty": (
        _replace(".atr", b""),
        DataError,
        "{folder}/a.atr: truncated: its end mark is missing; fetch the file again",
    ),
    "no annotation": (
        _replace(".atr", annotation_bytes()),
        NoBeatsError,
        "{folder}/a.atr: has no beats among 0 annotations",
    ),
    "no beats": (
        _replace(".atr", annotation_bytes((18, "+"), (90, "+"))),
        NoBeatsError,
        "{folder}/a.atr: has no beats among 2 annotations",
    ),
    "annotation beyond": (
        _replace(".atr", annotation_bytes((18, "N"), (3600, "N"))),
        DataError,
        "{folder}/a.atr: annotation at sample 3600 is outside the signal's 3600 samples",
    ),
    "mark beyond": (
        _replace(".atr", annotation_bytes((18, "N"), (9999, "+"))),
        DataError,
        "{folder}/a.atr: annotation at sample 9999 is outside the signal's 3600 samples",
    ),
    "annotation before": (
        _replace(".atr", annotation_bytes((-5, "N"), (300, "N"))),
        DataError,
        "{folder}/a.atr: annotation at sample -5 is outside the signal's 3600 samples",
    ),
    "annotations out of order": (
        _replace(".atr", annotation_bytes((18, "N"), (900, "N"), (400, "V"), (1200, "N"))),
        DataError,
        "{folder}/a.atr: annotations must be in order of time, but sample 400 follows sample 900",
    ),
    "beat annotated twice": (
        _replace(".atr", annotation_bytes((18, "N"), (400, "N"), (400, "A"), (1200, "N"))),
        DataError,
        "{folder}/a.atr: two beats are annotated at sample 400; keep one",
    ),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_record_is_one_clear_error(
    tmp_path: Path, write_record: WriteRecord, case: str
) -> None:
    damage, kind, message = DAMAGED[case]
    write_record(tmp_path, "a")
    stated = int((tmp_path / "a.hea").read_text().splitlines()[1].split()[6]) % 65536
    damage(tmp_path)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, "a")
    assert type(caught.value) is kind
    # The flipped bit is the lowest of a sample whose value is even.
    assert str(caught.value) == message.format(folder=tmp_path, stated=stated, got=stated + 1)


SIGNALS: dict[str, tuple[Callable[[NDArray[np.float64]], NDArray[np.float64]], str]] = {
    "missing samples": (
        lambda x: np.where(np.arange(len(x))[:, None] // 40 == 5, np.nan, x),
        "{folder}/a.dat: every sample must be finite, but 40 of 3600 of lead MLII are not "
        "(WFDB's mark of a missing sample)",
    ),
    "constant": (
        lambda x: np.full_like(x, 0.25),
        "{folder}/a.dat: lead MLII is constant: no ECG is in it",
    ),
}


@pytest.mark.parametrize("case", SIGNALS)
def test_signal_without_an_ecg_is_refused(
    tmp_path: Path, write_record: WriteRecord, case: str
) -> None:
    spoil, message = SIGNALS[case]
    peaks = np.sin(np.arange(7200.0)).reshape(3600, 2)
    write_record(tmp_path, "a", signal=spoil(peaks))
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, "a")
    assert str(caught.value) == message.format(folder=tmp_path)


HEADERS: dict[str, tuple[dict[str, Any], ReadingRules, str]] = {
    "rate of MIT-BIH": (
        {"rate_hz": 250},
        MITDB_RULES,
        "sampling rate must be 360 Hz, got 250 Hz (one's own records, of any rate, are given by "
        "--records and --split)",
    ),
    "rate of one's own": (
        {"rate_hz": 50},
        ANY_RATE,
        "sampling rate must lie in [100, 10000] Hz, got 50 Hz",
    ),
    "leads of MIT-BIH": (
        {"leads": ("V3", "aVR")},
        MITDB_RULES,
        "must have a lead that is accepted, best first: MLII, V1, V2, V4, V5; got V3, aVR",
    ),
    "leads of one's own": (
        {"leads": ("V3", "aVR")},
        ReadingRules(leads=("II",), sampling_rate_hz=None),
        "must have a lead that is accepted, best first: II; got V3, aVR; name another: --lead, "
        'or lead = "..." in a split',
    ),
    "unit": ({"unit": "mmHg"}, MITDB_RULES, "lead MLII is in 'mmHg'; known: mV, uV, µV, V"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_unsuitable_header_is_refused(
    tmp_path: Path, write_record: WriteRecord, case: str
) -> None:
    made, rules, message = HEADERS[case]
    write_record(tmp_path, "a", **made)
    with pytest.raises(DataError) as caught:
        read_record(tmp_path, "a", rules=rules)
    assert str(caught.value) == f"{tmp_path}/a.hea: {message}"


@pytest.mark.data
def test_real_record_114_is_read_from_its_second_channel(mitdb_dir: Path) -> None:
    """PhysioNet: V5 is channel 0 and MLII channel 1 in record 114 alone."""
    record = read_record(mitdb_dir, "114")
    assert record.lead == "MLII"
    assert record.signal_mv.shape == (650_000,)
    # The first sample that the header states for MLII: 1027 units, 1024 is zero, 200 are 1 mV.
    assert record.signal_mv[0] == pytest.approx((1027 - 1024) / 200)


@pytest.mark.data
def test_real_record_207_has_flutter_waves_that_are_no_beats(mitdb_dir: Path) -> None:
    assert read_record(mitdb_dir, "207").other_annotations["!"] == 472
