"""Where the patient's usual beat does not fit: distances from templates, record by record of DS1.

  MITDB_DIR=... python -m benchmarks.templates

Of each record and template it prints the median rms deviation of its N, S and V beats (over the
window from R - 0.25 s to R + 0.28 s, in sds of the template), and how well this distance alone
tells V from N and S from N within the record: the AUROC, .5 is chance. A template fits where N is
near and the others are far.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.config import CHOICES
from study.data.beat_set import BeatSet, default_cache_dir
from study.data.prepare import prepare_all
from study.data.reference.templates import SHAPE_CUT
from study.data.source import find_source
from study.keys import CLASSES, MIN_CLASS_BEATS

TEMPLATES = [name for name in CHOICES["template"] if name != "none"]


def main() -> None:
    """Print a line a record and template."""
    workspace = Path.cwd()
    source = find_source(workspace=workspace)
    cuts = {name: (*SHAPE_CUT, name) for name in TEMPLATES}
    sets = prepare_all(source, cuts.values(), cache_dir=default_cache_dir(workspace))
    print("record template   N     S     V   rms N rms S rms V  V from N  S from N")
    for number, record in enumerate(sets[cuts["record"]].record_names):
        for name in TEMPLATES:
            print(f"{record:6} {name:9}", *_line(sets[cuts[name]], number), flush=True)
    for name in TEMPLATES:
        print(f"all    {name:9}", *_line(sets[cuts[name]], None))


def _line(beats: BeatSet, number: int | None) -> list[str]:
    assert beats.reference is not None
    own = slice(None) if number is None else beats.record == number
    label, rms = beats.label[own], np.exp(beats.reference.distances[own, 0].astype(np.float64))
    of = {name: rms[label == CLASSES.index(name)] for name in "NSV"}
    counts = [f"{len(values):5}" for values in of.values()]
    medians = [f"{np.median(v):5.2f}" if len(v) else "    -" for v in of.values()]
    return [*counts, *medians, *(f"{_auroc(of[name], of['N']):>8}" for name in "VS")]


def _auroc(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> str:
    """Return how often a beat of the first is farther than one of the second; ties count half."""
    if min(len(positive), len(negative)) < MIN_CLASS_BEATS:
        return "-"
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    not_above = np.searchsorted(ordered, positive, "right")
    return f"{(below + not_above).mean() / (2 * len(negative)):.3f}"


if __name__ == "__main__":
    main()
