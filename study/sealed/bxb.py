"""The EC57 table of a stored result as PhysioNet's `bxb` counts it: escape beats with S.

The study has atrial, nodal and supraventricular escape beats (e, j, n) in N, as de Chazal et al.
2004 (doi:10.1109/TBME.2004.827359); `bxb` has them in S (its function `amap`). Only this table
differs: labels, training, thresholds and the stored result stay as they are. The symbols are read
from the annotations again, since predictions hold classes alone.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from study.data.annotations import AAMI
from study.data.source import Source
from study.data.windows import usable_beats
from study.errors import ArchiveError, StudyStateError, read_all
from study.files import read_arrays
from study.keys import CLASSES
from study.reporting.table import Table
from study.sealed.plan import SealedPlan
from study.sealed.result import PREDICTIONS
from study.sealed.tables import ec57_table
from study.statistics.ec57 import gross_and_average
from study.training.scores import confusions_by_record

_ESCAPE = tuple("ejn")


def bxb_table(plan: SealedPlan, result: Path, source: Source) -> Table:
    """Return the EC57 table of the result in a folder, with escape beats in S.

    Raises:
        StudyStateError: If the predictions cannot be read, or the records have other beats.
        DataError: If a record cannot be used.
    """
    path = result / PREDICTIONS
    log_probs = {
        name: f"log_probs_{name}" for name in (*(a.name for a in plan.arms), *plan.floors)
    }
    needed = {"label": ("i", 1), "record": ("i", 1), "record_names": ("U", 1)}
    needed |= {log_probs[arm.name]: ("f", 3) for arm in plan.arms}
    try:
        # A result of the version before has one floor.
        arrays = read_arrays(
            path.read_bytes(), needed, dict.fromkeys(log_probs.values(), ("f", 3))
        )
    except (OSError, ArchiveError) as error:
        raise StudyStateError(f"{path}: {error}; bring it back from a copy") from error
    symbols = _symbols(source, arrays["record_names"].tolist())
    label = np.array([CLASSES.index(AAMI[symbol]) for symbol in symbols], dtype=np.int64)
    if not np.array_equal(label, arrays["label"]):
        raise StudyStateError(
            f"{path}: has {len(arrays['label'])} beats that are not the {len(label)} of the "
            f"records in {source.where}; give the records of this result"
        )
    escape = np.isin(symbols, _ESCAPE)
    label[escape] = CLASSES.index("S")
    record = arrays["record"].astype(np.int64)
    n_records = len(arrays["record_names"])
    return ec57_table(
        {
            name: gross_and_average(
                confusions_by_record(arrays[key], label, record, n_records=n_records)
            )
            for name, key in log_probs.items()
            if key in arrays
        },
        f" with {escape.sum()} escape beats (e, j, n) in S, as bxb counts",
    )


def _symbols(source: Source, names: list[str]) -> list[str]:
    """Return the symbol of every beat that is studied, [N], in the order of the beat set."""

    def of_record(name: str) -> list[str]:
        record = source.read(name)
        symbols: list[str] = record.beat_symbols[usable_beats(record).index].tolist()
        return symbols

    return sum(read_all(names, of_record, folder=source.where).values(), [])
