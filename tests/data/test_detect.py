"""R peaks found where none are annotated."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from study.data.annotations import read_annotations
from study.data.detect import find_r_peaks
from study.data.records import AAMI
from study.data.synthetic import write_records
from study.data.wfdb_record import Lead, ReadingRules, read_lead
from study.errors import DataError

RULES = ReadingRules(leads=("MLII",), sampling_rate_hz=None)


def lead_of(signal: NDArray[np.floating], rate_hz: float = 360) -> Lead:
    return Lead(
        record="x", name="II", sampling_rate_hz=rate_hz, signal_mv=signal.astype(np.float32)
    )


@pytest.mark.parametrize("rate_hz", [128, 257, 360])
def test_r_peaks_are_found_where_they_are_annotated(tmp_path: Path, rate_hz: int) -> None:
    """Wide premature beats included, and whatever the height of the lead."""
    write_records(tmp_path, names=("101", "208"), duration_s=60, sampling_rate_hz=rate_hz)
    for name in ("101", "208"):
        lead = read_lead(tmp_path, name, rules=RULES)
        truth = read_annotations(tmp_path, name)
        for height in (1.0, 0.1):
            found = find_r_peaks(lead_of(lead.signal_mv * height, rate_hz))
            distance_s = np.abs(truth.beat_samples[:, None] - found).min(axis=1) / rate_hz
            hit = distance_s < 0.02
            is_v = np.array([AAMI[symbol] == "V" for symbol in truth.beat_symbols.tolist()])
            assert is_v.sum() >= 2
            assert hit.mean() > 0.9
            assert hit[is_v].mean() > 0.8
            assert len(found) < 1.05 * len(hit)


def test_a_signal_without_beats_is_one_clear_error() -> None:
    rng = np.random.default_rng(0)
    slow = np.sin(np.arange(3600) / 500) + 1e-6 * rng.standard_normal(3600)
    with warnings.catch_warnings(), pytest.raises(DataError) as caught:
        warnings.simplefilter("ignore")
        find_r_peaks(lead_of(slow[:40]))
    assert str(caught.value).startswith(
        "record x: lead II: no beats were found by GQRS of wfdb.processing"
    )
