"""Synthetic WFDB records, in the names of DS1: made-up patients in files like the real ones.

What the patients are like is in `study.data.physiology`. The records are written by `wfdb` in the
format of MIT-BIH and read back by the code that reads real records.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data import physiology
from study.data.checksums import files_of, sha256_of
from study.data.physiology import Beats, draw_beats, draw_shapes, draw_signal
from study.data.records import DS1
from study.errors import DataError

MANIFEST = "synthetic.json"
MIN_DURATION_S = 30.0
LEAD_NAMES = ("MLII", "V1")

_ADC_GAIN, _ADC_ZERO, _ADC_MAX = 200, 1024, 2047
_RHYTHM_NOTE = "(N"


def write_records(
    folder: Path,
    *,
    names: Sequence[str] = DS1,
    seed: int = 0,
    duration_s: float = 300.0,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    leads: tuple[str, str] = LEAD_NAMES,
) -> dict[str, str]:
    """Write synthetic records, unless the very same ones are there already.

    A patient depends on the seed, the record's name and the duration alone: at another sampling
    rate it is the same patient, recorded by another device. Files are written aside and moved
    into place one by one; a manifest that goes first tells whole from half.

    Args:
        folder: Where to; made where absent.
        names: Record names.
        seed: Of all random draws.
        duration_s: Length of each record, at least 30 s.
        sampling_rate_hz: Of the files.
        leads: Names of the two leads.

    Returns:
        SHA-256 of every file, by name.

    Raises:
        DataError: If the folder holds records that are not synthetic, or the time is too short.
    """
    if duration_s < MIN_DURATION_S:
        raise DataError(f"duration_s must be at least {MIN_DURATION_S:g} s, got {duration_s:g} s")
    made_by = {
        "generator": [sha256_of(Path(__file__)), sha256_of(Path(physiology.__file__))],
        "names": list(names),
        "seed": seed,
        "duration_s": duration_s,
        "sampling_rate_hz": sampling_rate_hz,
        "leads": list(leads),
    }
    old = _manifest(folder)
    if old is not None and made_by.items() <= old.items() and _is_whole(folder, old["files"]):
        return dict(old["files"])
    if old is None and folder.exists() and any(folder.glob("*.hea")):
        raise DataError(f"{folder}: holds records that are not synthetic; give another folder")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".writing-") as aside:
        for name in names:
            _write_record(Path(aside), name, seed, duration_s, sampling_rate_hz, leads)
        files = {file: sha256_of(Path(aside, file)) for file in files_of(names)}
        Path(aside, MANIFEST).write_text(json.dumps(made_by | {"files": files}, indent=1))
        for file in (MANIFEST, *files):
            os.replace(Path(aside, file), folder / file)
    return files


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), dict) else None


def _is_whole(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / f).is_file() and sha256_of(folder / f) == files[f] for f in files)


def _write_record(
    folder: Path, name: str, seed: int, duration_s: float, rate_hz: int, leads: tuple[str, str]
) -> None:
    import wfdb
    from scipy.signal import resample_poly

    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, key])
    n_samples = round(duration_s * SAMPLING_RATE_HZ)
    beats = draw_beats(rng, n_samples)
    shapes = draw_shapes(rng)
    signal_mv = np.stack([draw_signal(rng, beats, s, n_samples) for s in shapes], axis=1)
    if name == "114":  # As in the real record 114, the first lead comes second.
        signal_mv, leads = signal_mv[:, ::-1], leads[::-1]
    if rate_hz != SAMPLING_RATE_HZ:
        signal_mv = resample_poly(signal_mv, rate_hz, SAMPLING_RATE_HZ, padtype="line")
    digital = np.clip(np.rint(signal_mv * _ADC_GAIN) + _ADC_ZERO, 0, _ADC_MAX)
    wfdb.wrsamp(
        name,
        fs=rate_hz,
        units=["mV", "mV"],
        sig_name=list(leads),
        d_signal=digital.astype(np.int64),
        fmt=["212", "212"],
        adc_gain=[_ADC_GAIN, _ADC_GAIN],
        baseline=[_ADC_ZERO, _ADC_ZERO],
        comments=["Synthetic: no person's ECG."],
        write_dir=str(folder),
    )
    samples, symbols = _annotations(rng, beats)
    samples = np.rint(samples * (rate_hz / SAMPLING_RATE_HZ)).astype(np.int64)
    notes = [_RHYTHM_NOTE if symbol == "+" else "" for symbol in symbols]
    wfdb.wrann(
        name, "atr", samples, symbol=symbols.tolist(), aux_note=notes, write_dir=str(folder)
    )


def _annotations(
    rng: np.random.Generator, beats: Beats
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the beats with marks among them that are none: rhythm, noise and artefacts."""
    n_marks = max(3, len(beats.samples) // 40)
    before = rng.choice(len(beats.samples) - 1, size=n_marks, replace=False)
    middle = (beats.samples[before] + beats.samples[before + 1]) // 2
    start = max(0, int(beats.samples[0]) - 30)
    samples = np.concatenate([[start], beats.samples, middle])
    symbols = np.concatenate([["+"], beats.symbols, rng.choice(["+", "~", "|"], size=n_marks)])
    order = np.argsort(samples, kind="stable")
    return samples[order], symbols[order]
