"""WFDB records made to measure, for the tests of reading them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb
from numpy.typing import NDArray

from study.data.synthetic import write_records

WriteRecord = Callable[..., NDArray[np.int64]]


@pytest.fixture
def _short_synthetic_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic records of half a minute where a study would have five."""

    def write_short(folder: Path, **options: Any) -> dict[str, str]:
        return write_records(folder, **(options | {"duration_s": 30}))

    monkeypatch.setattr("study.data.source.write_records", write_short)


@pytest.fixture
def write_record() -> WriteRecord:
    """Write a record of narrow peaks, 0.8 s apart; returns the sample of each beat annotation."""

    def write(
        folder: Path,
        name: str,
        *,
        rate_hz: float = 360,
        duration_s: float = 10.0,
        leads: Sequence[str] = ("MLII", "V1"),
        unit: str = "mV",
        signal: NDArray[np.float64] | None = None,
        symbols: str = "N",
    ) -> NDArray[np.int64]:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        t = np.arange(round(duration_s * rate_hz)) / rate_hz
        beats_s = np.arange(0.5, duration_s - 0.3, 0.8)
        peaks = np.exp(-0.5 * ((t[:, None] - beats_s) / 0.012) ** 2).sum(axis=1)
        if signal is None:
            # Channels differ in height, so that a test can tell which one was read.
            signal = peaks[:, None] * (1.0 + np.arange(len(leads)))
        wfdb.wrsamp(
            path.name,
            fs=rate_hz,
            units=[unit] * len(leads),
            sig_name=list(leads),
            p_signal=signal,
            fmt=["16"] * len(leads),
            adc_gain=[1000.0] * len(leads),
            baseline=[0] * len(leads),
            write_dir=str(path.parent),
        )
        samples = np.rint(beats_s * rate_hz).astype(np.int64)
        cycled = [symbols[i % len(symbols)] for i in range(len(samples))]
        wfdb.wrann(path.name, "atr", samples, symbol=cycled, write_dir=str(path.parent))
        return samples

    return write
