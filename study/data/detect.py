"""R peaks of a record without beat annotations, found by the GQRS detector of `wfdb`.

Of the two detectors of `wfdb.processing`, XQRS passes over premature wide beats, which are those
that a classifier is there to find. GQRS does not, but judges beats by their height in millivolts:
it is given the signal scaled to the usual height.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from study.data.wfdb_header import WFDB_ERRORS
from study.data.wfdb_record import Lead
from study.errors import DataError

DETECTOR = "GQRS of wfdb.processing"
"""What finds R peaks, for messages."""

_USUAL_SWING_MV = 1.5
_STRETCH_S = 2.0
"""Over such stretches the median swing, from lowest to highest sample, is made the usual one."""

_SEARCH_S = 0.1
"""How far from where GQRS, which matches a filter, puts a wide QRS its extremum may lie."""

_BASELINE_S = 0.4
"""Length of the running mean that extrema are measured from."""


def find_r_peaks(lead: Lead) -> NDArray[np.int64]:
    """Return the R peaks of a lead, [beats] samples at its own rate, strictly rising.

    Each detection is moved to the largest deflection near it, up or down: that is where
    annotators mark a beat, and so where the windows that a network has learnt are anchored.

    Raises:
        DataError: If no beat is found.
    """
    from wfdb import processing

    signal, rate_hz = lead.signal_mv.astype(np.float64), lead.sampling_rate_hz
    fault = f"record {lead.record}: lead {lead.name}: no beats were found by {DETECTOR}"
    try:
        found = processing.gqrs_detect(sig=_scaled(signal, rate_hz), fs=rate_hz)
        if len(found) == 0:
            raise DataError(f"{fault}; is it an ECG?")
        moved = processing.correct_peaks(
            signal,
            np.asarray(found, dtype=np.int64),
            search_radius=round(_SEARCH_S * rate_hz),
            smooth_window_size=round(_BASELINE_S * rate_hz),
            peak_dir="both",
        )
    except DataError:
        raise
    except WFDB_ERRORS as err:
        raise DataError(f"{fault}: {err}") from err
    return np.unique(np.asarray(moved, dtype=np.int64))


def _scaled(signal_mv: NDArray[np.float64], rate_hz: float) -> NDArray[np.float64]:
    width = min(len(signal_mv), round(_STRETCH_S * rate_hz))
    stretches = signal_mv[: len(signal_mv) // width * width].reshape(-1, width)
    swings = np.ptp(stretches, axis=1)
    # Where a lead was off for most of the time, what there is of it counts.
    swings = swings[swings > 0] if swings.any() else np.ptp(signal_mv, keepdims=True)
    return np.asarray(signal_mv * (_USUAL_SWING_MV / np.median(swings)))
