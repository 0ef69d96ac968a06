"""What bfloat16 does to scores: on fixed weights, and in training over paired seeds.

  MITDB_DIR=... python benchmarks/precision.py [--seeds 16] [--epochs 4] [--fusion concat_proj]

Trains one configuration on the published hold-out of DS1 (17 records, 5 to score on) twice, in
float32 and in bfloat16, both compiled, one process of one thread each, side by side. Both see the
same initial weights and the same batches, seed by seed, and both are scored in float32. DS2 is
not read. Prints the differences of AUPRC of S and V, bfloat16 minus float32, with a 95 %
t-interval over seeds, the standard deviation of a seed, and by how much the score of the weights
trained in bfloat16 differs where the kernels are not compiled.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from study.config import TrialConfig
from study.data.beatset import BeatSet
from study.data.prepare import prepare
from study.data.source import find_source
from study.data.splits import published_holdout
from study.keys import CLASSES, MIN_CLASS_BEATS
from study.training.engine import Engine
from study.training.loop import TrialTraining
from study.training.scores import rank_within

BOTH = ("S", "V")


def main() -> None:
    """Train in both precisions and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=16, help="paired seeds (default 16)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs (default 4)")
    parser.add_argument("--fusion", default="concat_proj", help="fusion (default concat_proj)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = find_source(data_dir=None, records_dir=None, split_file=None, workspace=Path())
        beats = prepare(source, "daeac", "linear", cache_dir=Path(folder))
    config = TrialConfig.from_flat({"input": "opt1", "fusion": args.fusion, "epochs": args.epochs})
    spawn = get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=spawn) as pool:
        exact = pool.submit(train, config, beats, args.seeds, "fp32")
        faster = pool.submit(train, config, beats, args.seeds, "bf16")
        (fp32, _), (bf16, other) = exact.result(), faster.result()
    print(f"{config.model.fusion}, {args.seeds} seeds, {args.epochs} epochs, published hold-out")
    for name, of_class in (*((c, CLASSES.index(c)) for c in BOTH), ("S+V", None)):
        exactly, trained, elsewhere = (
            values[:, of_class]
            if of_class is not None
            else values[:, [CLASSES.index(c) for c in BOTH]].mean(axis=1)
            for values in (fp32, bf16, other)
        )
        fixed, change = elsewhere - trained, trained - exactly
        half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / len(change) ** 0.5
        print(
            f"AUPRC {name:<4} float32 {exactly.mean():.4f}, seed sd {exactly.std(ddof=1):.4f} | "
            f"fixed weights: largest change {np.abs(fixed).max():.5f} | trained: "
            f"{change.mean():+.4f} [{change.mean() - half:+.4f}, {change.mean() + half:+.4f}]"
        )


def train(
    config: TrialConfig, beats: BeatSet, n_seeds: int, precision: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train all seeds; return AUPRC [S, C], and that of the same weights scored uncompiled."""
    torch.set_num_threads(1)
    folds = published_holdout(beats.record_names)
    training = TrialTraining(
        config,
        beats,
        folds,
        n_seeds=n_seeds,
        study_seed=0,
        engine=Engine(precision, compiled=True),
    )
    while not training.finished:
        training.run_epoch()
    result = training.finish()
    validation = folds.masks(beats)[0][1]
    scored = _auprc(result.log_probs[:, validation], beats.label[validation])
    other = TrialTraining(
        config,
        beats,
        folds,
        n_seeds=n_seeds,
        study_seed=0,
        engine=Engine("fp32"),
    )
    again = other.predict_with(result.weights)
    return scored, _auprc(again[:, validation], beats.label[validation])


def _auprc(log_probs: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AUPRC of every seed and class, [S, C]."""
    group = np.zeros(len(label), dtype=np.int64)
    ranked = rank_within(log_probs, label, group, n_groups=1, min_beats=MIN_CLASS_BEATS)
    return np.asarray(ranked.by_class("auprc"))


if __name__ == "__main__":
    main()
