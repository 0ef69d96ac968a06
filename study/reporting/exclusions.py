"""Beats that no arm of a study sees, by reason: counted once, kept in its folder."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from study.data.beat_set import BeatSet
from study.data.windows import DROP_REASONS
from study.store.storage import Storage

FILE = "exclusions.json"


def stored(folder: Path) -> dict[str, int] | None:
    """Return the counts of a study's folder, None where it has none."""
    content = Storage.at(folder).read(FILE)
    return None if content is None else {str(k): int(v) for k, v in json.loads(content).items()}


def keep(folder: Path, beats: BeatSet) -> dict[str, int]:
    """Count the beats that were left out and keep the counts in the study's folder."""
    totals: Counter[str] = Counter()
    for reasons in beats.dropped.values():
        totals.update(reasons)
    counts = {reason: totals[reason] for reason in DROP_REASONS}
    Storage.at(folder).write(FILE, json.dumps(counts, indent=1).encode())
    return counts
