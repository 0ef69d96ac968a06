"""What keeps a network from memorising: the tries of a recipe, each against a base in pairs.

  python -m benchmarks.recipe STUDY... [--base STUDY/ARM]

Reads compare studies of the current folder that have the same beats, folds and seeds, and prints a
line for each complete arm, named by the parameters in which it differs from the base (default: the
first arm of the first study). Scores are AUPRC within folds, means over seeds, beside the sd over
seeds. Where each seed has a partition into folds of its own, this holds the spread over partitions
too. The difference from the base is the mean over seeds, and in brackets each seed's. Where a
partition has several seeds, a second line scores their ensemble: the mean of their probabilities.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES, MIN_CLASS_BEATS, TRAIN_LOSS
from study.models.rules import active_parameters
from study.statistics.predictions import Beats
from study.store.study import Study
from study.store.trials import TrialRow
from study.training.scores import rank_within

Float = NDArray[np.float64]


def main() -> None:
    """Print a line an arm."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="+", metavar="STUDY")
    parser.add_argument("--base", default="", metavar="STUDY/ARM", help="default: the first arm")
    args = parser.parse_args()
    tries = {
        f"{study.name}/{row.arm}": (study, row)
        for study in (Study.open(Path.cwd(), name).readable() for name in args.studies)
        for row in study.rows
        if row.ranks(study.objective)
    }
    base = args.base or next(iter(tries))
    if base not in tries:
        raise SystemExit(f"no complete trial of {base}; there are {', '.join(tries)}")
    study, row = tries[base]
    values, scores = parameters(study, row), scored(study.beats, log_probs(study, row))
    print("S+V         S     V     difference by seed            loss  recipe")
    for name, (study, row) in tries.items():
        changed = {k: v for k, v in parameters(study, row).items() if v != values.get(k)}
        gone = {k: "off" for k in values if k not in parameters(study, row)}
        recipe = ", ".join(f"{k} {v}" for k, v in {**changed, **gone}.items())
        probs = log_probs(study, row)
        own = scored(study.beats, probs)
        print(line(own, scores), f" {row.metric(TRAIN_LOSS):.3f}  {recipe or name}", flush=True)
        if (n := study.beats.n_partitions) < len(probs):
            together = np.stack([np.exp(probs[p::n]).mean(axis=0) for p in range(n)])
            print(line(scored(study.beats, np.log(together)), None), " " * 7, "their ensemble")


def parameters(study: Study, row: TrialRow) -> Mapping[str, Any]:
    """Return what can change a trial's result."""
    return active_parameters(study.configs[row.number])


def log_probs(study: Study, row: TrialRow) -> NDArray[np.float32]:
    """Return a trial's predictions, [S, N, C]."""
    predicted: NDArray[np.float32] = study.predictions(row)["log_probs"]
    return predicted


def scored(beats: Beats, predicted: NDArray[np.floating]) -> Float:
    """Return the AUPRC of S and V within folds, of each seed, [S, 2]."""
    within = rank_within(
        predicted, beats.label, beats.fold, n_groups=beats.n_folds, min_beats=MIN_CLASS_BEATS
    )
    return within.by_class("auprc")[:, [CLASSES.index("S"), CLASSES.index("V")]]


def line(own: Float, base: Float | None) -> str:
    """Return scores, and differences from those of a base with the same seeds."""
    both, (s, v) = own.mean(axis=1), own.mean(axis=0)
    spread = f"{both.std(ddof=1):.3f}" if len(both) > 1 else f"{'-':5}"
    text = f"{both.mean():.3f} {spread} {s:.3f} {v:.3f}"
    if base is None or len(base) != len(own):
        return f"{text} {'':29}"
    by_seed = both - base.mean(axis=1)
    each = ", ".join(f"{difference:+.3f}" for difference in by_seed)
    return f"{text} {f'{by_seed.mean():+.3f} [{each}]':29}"


if __name__ == "__main__":
    main()
