"""Synthetic WFDB records under DS1's names: made-up patients in files like the real ones.

The records are written by `wfdb` in the format of MIT-BIH and read back by the code that reads
real records.

Sinus rhythm varies with breathing and slowly. A supraventricular beat (S) is premature, its QRS
nearly normal, and it resets the sinus node: no full compensatory pause. A ventricular beat (V) is
premature and wide, without P wave, and the next sinus beat comes on time: a full compensatory
pause. A fusion beat (F) comes about on time with a shape between the two. Patients differ in
shape, rate, class mix and noise.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.config import SAMPLING_RATE_HZ
from study.data.catalogue import DS1
from study.data.fetch import files_of, sha256_of
from study.errors import DataError

MANIFEST = "synthetic.json"
MIN_DURATION_S = 30.0
LEAD_NAMES = ("MLII", "V1")

_ADC_GAIN, _ADC_ZERO, _ADC_MAX = 200, 1024, 2047
_RHYTHM_NOTE = "(N"

_FIRST_ECTOPIC = 4
_RATES = {"S": (0.02, 0.15), "V": (0.03, 0.18), "F": (0.015, 0.08)}
_PREMATURITY = {"S": (0.6, 0.88), "V": (0.5, 0.8), "F": (0.88, 1.0)}

Array = NDArray[np.float64]


def write_records(
    folder: Path,
    *,
    names: Sequence[str] = DS1,
    seed: int = 0,
    duration_s: float = 300.0,
    sampling_rate_hz: int = SAMPLING_RATE_HZ,
    leads: tuple[str, str] = LEAD_NAMES,
) -> dict[str, str]:
    """Write synthetic records, unless identical ones exist; return all files' SHA-256.

    A patient depends only on the seed, the record's name and the duration: at another sampling
    rate it is the same patient, recorded by another device. Files are written elsewhere and moved
    into place one by one; a manifest, moved first, shows whether all are there.

    Raises:
        DataError: If the folder holds records that are not synthetic, or the time is too short.
    """
    if duration_s < MIN_DURATION_S:
        raise DataError(f"duration_s must be at least {MIN_DURATION_S:g} s, got {duration_s:g} s")
    made_by = {
        "generator": sha256_of(Path(__file__)),
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
        raise DataError("holds records that are not synthetic; give another folder", folder)
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
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(manifest, dict) and isinstance(manifest.get("files"), dict)
    return manifest if whole else None


def _is_whole(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / f).is_file() and sha256_of(folder / f) == files[f] for f in files)


def _write_record(
    folder: Path, name: str, seed: int, duration_s: float, rate_hz: int, leads: tuple[str, str]
) -> None:
    import wfdb
    from scipy.signal import resample_poly

    # Seeded by the name, so that a patient does not depend on the other records.
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([seed, key])
    n_samples = round(duration_s * SAMPLING_RATE_HZ)
    beats = _draw_beats(rng, n_samples)
    shapes = _draw_shapes(rng)
    signal_mv = np.stack([_draw_signal(rng, beats, s, n_samples) for s in shapes], axis=1)
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
    rng: np.random.Generator, beats: _Rhythm
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the beats together with other annotations: rhythm, noise and artefacts."""
    n_marks = max(3, len(beats.samples) // 40)
    before = rng.choice(len(beats.samples) - 1, size=n_marks, replace=False)
    middle = (beats.samples[before] + beats.samples[before + 1]) // 2
    start = max(0, int(beats.samples[0]) - 30)
    samples = np.concatenate([[start], beats.samples, middle])
    symbols = np.concatenate([["+"], beats.symbols, rng.choice(["+", "~", "|"], size=n_marks)])
    order = np.argsort(samples, kind="stable")
    return samples[order], symbols[order]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rhythm:
    """The beats of one record."""

    samples: NDArray[np.int64]  # [beats] sample index of each R peak at 360 Hz
    symbols: NDArray[np.str_]  # [beats] WFDB symbols
    # [beats, waves] weight of the waves P, early P, QRS, T, wide QRS and wide T in each beat
    weights: Array


def _draw_beats(rng: np.random.Generator, n_samples: int) -> _Rhythm:
    """Draw a patient's rhythm."""
    mean_rr_s = rng.uniform(0.62, 1.0)
    duration_s = n_samples / SAMPLING_RATE_HZ
    labels = _labels(rng, int(duration_s / mean_rr_s))
    rr_s = _rr_intervals(rng, labels, mean_rr_s)
    times_s = rng.uniform(0.2, 0.8) + np.cumsum(rr_s)
    inside = times_s < duration_s - 0.2
    labels = labels[inside]
    return _Rhythm(
        samples=np.rint(times_s[inside] * SAMPLING_RATE_HZ).astype(np.int64),
        symbols=_symbols(rng, labels),
        weights=_weights(rng, labels),
    )


def _labels(rng: np.random.Generator, n_expected: int) -> NDArray[np.str_]:
    """Draw the class of each beat, with at least two of each class in every record."""
    labels = np.full(2 * n_expected, "N")
    # Ectopic beats stay within the first 0.85, which lie inside the signal at any rate.
    positions = rng.permutation(np.arange(_FIRST_ECTOPIC, int(0.85 * n_expected)))
    for name, (low, high) in _RATES.items():
        count = max(2, round(np.exp(rng.uniform(np.log(low), np.log(high))) * n_expected))
        labels[positions[:count]] = name
        positions = positions[count:]
    if rng.random() < 0.3:
        labels[positions[:2]] = "Q"
    return labels


def _rr_intervals(rng: np.random.Generator, labels: NDArray[np.str_], mean_rr_s: float) -> Array:
    """Return the interval before each beat, in seconds."""
    n = len(labels)
    breathing = rng.uniform(0.01, 0.05) * np.sin(2 * np.pi * np.arange(n) / rng.uniform(3.5, 6))
    slow = np.convolve(rng.normal(0.0, 0.02, n + 30), np.hanning(31) / 4, mode="valid")
    sinus_s = mean_rr_s * (1 + breathing + slow + rng.normal(0.0, 0.01, n))
    rr_s = sinus_s.copy()
    for i in range(1, n):
        if labels[i] in _PREMATURITY:
            rr_s[i] = sinus_s[i] * rng.uniform(*_PREMATURITY[labels[i]])
        elif labels[i - 1] == "V":
            rr_s[i] = 2 * sinus_s[i] - rr_s[i - 1]
        elif labels[i - 1] == "S":
            rr_s[i] = sinus_s[i] * rng.uniform(1.0, 1.12)
    return np.asarray(rr_s.clip(min=0.28))


def _symbols(rng: np.random.Generator, labels: NDArray[np.str_]) -> NDArray[np.str_]:
    """Return WFDB symbols; a patient's normal beats may have a bundle branch block (L, R)."""
    symbols = labels.copy()
    symbols[labels == "N"] = rng.choice(["N", "L", "R"], p=[0.8, 0.1, 0.1])
    for label, common, rare in (("S", "A", ["a", "J", "S"]), ("V", "V", ["E"])):
        here = np.flatnonzero(labels == label)
        symbols[here] = common
        symbols[here[rng.random(len(here)) < 0.1]] = rng.choice(rare)
    return symbols


def _weights(rng: np.random.Generator, labels: NDArray[np.str_]) -> Array:
    """Return how much of each wave every beat has, [beats, waves], with beat-to-beat variation."""
    # An ectopic focus: how far the P wave of S beats differs from the sinus P wave.
    ectopic_p = rng.uniform(0.3, 1.0)
    weights = np.tile([1.0, 0.0, 1.0, 1.0, 0.0, 0.0], (len(labels), 1))
    weights[labels == "S"] = [1 - ectopic_p, ectopic_p, 1.0, 0.95, 0.0, 0.0]
    weights[labels == "V"] = [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
    share = rng.uniform(0.3, 0.7, size=(int((labels == "F").sum()), 1))
    fused = np.hstack([1 - share, 0 * share, 1 - share, 1 - share, share, share])
    weights[labels == "F"] = fused
    weights[labels == "Q"] = [0.3, 0.3, 0.6, 0.6, 0.4, 0.4]
    return weights * rng.normal(1.0, 0.05, size=weights.shape)


def _draw_shapes(rng: np.random.Generator) -> Array:
    """Return a patient's waves around the R peak in both leads, [leads, waves, window]."""
    t = _window() / SAMPLING_RATE_HZ
    late = rng.uniform(0.9, 1.1)
    wide = rng.uniform(1.5, 2.2) if rng.random() < 0.2 else rng.uniform(0.85, 1.2)
    sign = rng.choice([-1.0, 1.0], p=[0.35, 0.65])
    mlii, v1 = rng.uniform(0.7, 1.3, size=2)
    pr_s = rng.uniform(0.14, 0.2)

    def wave(*bumps: tuple[float, float, float]) -> Array:
        """Add up Gaussians of (centre in s, width in s, height in mV)."""
        total: Array = np.sum([h * np.exp(-0.5 * ((t - c) / w) ** 2) for c, w, h in bumps], axis=0)
        return total

    leads = [
        [  # MLII
            wave((-pr_s, 0.022, 0.13)),
            wave((-0.8 * pr_s, 0.018, rng.uniform(-0.12, 0.05))),
            wave((-0.028 * wide, 0.01 * wide, -0.1), (0, 0.011 * wide, 1.15 * mlii))
            + wave((0.03 * wide, 0.011 * wide, -0.22 * mlii)),
            wave((0.27 * late, 0.05, rng.uniform(0.15, 0.35))),
            wave((0, 0.036, 1.35 * sign * mlii), (0.085, 0.035, -0.45 * sign * mlii)),
            wave((0.32 * late, 0.065, -0.4 * sign)),
        ],
        [  # V1
            wave((-pr_s, 0.02, 0.06)),
            wave((-0.8 * pr_s, 0.018, rng.uniform(-0.06, 0.06))),
            wave((-0.014, 0.009 * wide, 0.22), (0.014, 0.013 * wide, -0.95 * v1)),
            wave((0.27 * late, 0.05, rng.uniform(-0.1, 0.15))),
            wave((0.01, 0.042, -1.1 * sign * v1), (0.09, 0.035, 0.3 * sign)),
            wave((0.32 * late, 0.065, 0.35 * sign)),
        ],
    ]
    return np.array(leads)


def _window() -> NDArray[np.int64]:
    return np.arange(round(-0.35 * SAMPLING_RATE_HZ), round(0.6 * SAMPLING_RATE_HZ))


def _draw_signal(rng: np.random.Generator, beats: _Rhythm, shapes: Array, n_samples: int) -> Array:
    """Add up all beats of one lead, with noise, mains hum and baseline wander, in millivolts."""
    at = beats.samples[:, None] + _window()
    inside = (at >= 0) & (at < n_samples)
    heights = beats.weights @ shapes
    ecg = np.bincount(at[inside], heights[inside], n_samples).astype(np.float64)
    t = np.arange(n_samples) / SAMPLING_RATE_HZ
    phase = rng.uniform(0, 2 * np.pi, size=3)
    wander = rng.uniform(0.03, 0.15) * np.sin(2 * np.pi * rng.uniform(0.15, 0.35) * t + phase[0])
    drift = rng.uniform(0.02, 0.1) * np.sin(2 * np.pi * rng.uniform(0.03, 0.08) * t + phase[1])
    hum = rng.uniform(0.0, 0.01) * np.sin(2 * np.pi * 60 * t + phase[2])
    ecg += wander + drift + hum + rng.normal(0.0, rng.uniform(0.008, 0.03), n_samples)
    return ecg
