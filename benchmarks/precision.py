"""What bfloat16 does to scores: on fixed weights, and in training over paired seeds.

  MITDB_DIR=... python benchmarks/precision.py [--seeds 16] [--epochs 4] [--fusion concat_proj]
  python benchmarks/precision.py --device cuda --beats beats.bin --precisions tf32 bf16

Trains one configuration on the published hold-out of DS1 (17 records, 5 to score on) in float32
and in less precision, compiled, in a process of one thread each, side by side; on a GPU packed,
of beats that `gpu_packing.py --export` wrote. All see the same initial weights and the same
batches, seed by seed, and all are scored in float32. DS2 is not read. Prints the
differences of AUPRC of S and V to float32, with a 95 % t-interval over seeds, the standard
deviation of a seed, and by how much the score of the weights trained in less precision differs
where the kernels are not compiled.
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
from study.data.beat_set import BeatSet, load_cached
from study.data.folds import published_holdout
from study.keys import CLASSES, MIN_CLASS_BEATS
from study.models.classifier import build_model
from study.training.device import DeviceBeats, resolve_device
from study.training.engine import Engine, resolve_precision
from study.training.loop import TrialTraining
from study.training.member import predict, seed_inputs
from study.training.scores import rank_within

KEY = "gpu_packing"
"""Of exported beats (see `gpu_packing.py`)."""


def main() -> None:
    """Train in all precisions and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=16, help="paired seeds (default 16)")
    parser.add_argument("--epochs", type=int, default=4, help="epochs (default 4)")
    parser.add_argument("--fusion", default="concat_proj", help="fusion (default concat_proj)")
    parser.add_argument("--device", default="cpu", help="default cpu")
    parser.add_argument("--beats", type=Path, metavar="FILE", help="what gpu_packing.py exported")
    parser.add_argument(
        "--precisions", nargs="+", choices=("tf32", "bf16"), default=["bf16"], help="default bf16"
    )
    args = parser.parse_args()
    for precision in args.precisions:
        resolve_precision(precision, args.device)
    beats = _prepared() if args.beats is None else load_cached(args.beats, KEY)
    if beats is None:
        parser.error(f"--beats {args.beats}: gpu_packing.py --export did not write it")
    config = TrialConfig.from_flat({"input": "opt1", "fusion": args.fusion, "epochs": args.epochs})
    spawn = get_context("spawn")
    n_processes = 2 if args.device == "cpu" else 1 + len(args.precisions)
    with ProcessPoolExecutor(n_processes, mp_context=spawn) as pool:
        running = {
            precision: pool.submit(train, config, beats, args.seeds, precision, args.device)
            for precision in ("fp32", *args.precisions)
        }
        found = {precision: future.result() for precision, future in running.items()}
    print(f"{config.model.fusion}, {args.seeds} seeds, {args.epochs} epochs, published hold-out")
    for precision in args.precisions:
        compare(precision, found["fp32"][0], *found[precision])


def compare(
    precision: str,
    fp32: NDArray[np.float64],
    lower: NDArray[np.float64],
    elsewhere: NDArray[np.float64],
) -> None:
    """Print what a precision changes.

    Args:
        precision: Its name.
        fp32: AUPRC [S, C] of what was trained in float32.
        lower: Of what was trained in this precision.
        elsewhere: Of the same weights, not compiled.
    """
    for name, classes in (("S", ["S"]), ("V", ["V"]), ("S+V", ["S", "V"])):
        columns = [CLASSES.index(each) for each in classes]
        exactly, trained, again = (
            values[:, columns].mean(axis=1) for values in (fp32, lower, elsewhere)
        )
        fixed, change = again - trained, trained - exactly
        half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / len(change) ** 0.5
        print(
            f"{precision} AUPRC {name:<4} fp32 {exactly.mean():.4f}, seed sd "
            f"{exactly.std(ddof=1):.4f} | fixed weights: largest change "
            f"{np.abs(fixed).max():.5f} | trained: {change.mean():+.4f} "
            f"[{change.mean() - half:+.4f}, {change.mean() + half:+.4f}]"
        )


def train(
    config: TrialConfig, beats: BeatSet, n_seeds: int, precision: str, device: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train all seeds; return AUPRC [S, C], and that of the same weights scored uncompiled."""
    torch.set_num_threads(1)
    folds = published_holdout(beats.record_names)
    on_cpu = device == "cpu"
    training = TrialTraining(
        config,
        beats,
        folds,
        n_seeds=n_seeds,
        study_seed=0,
        device=device,
        engine=Engine(precision, compiled=on_cpu, packed=not on_cpu),
    )
    while not training.finished:
        training.run_epoch()
    result = training.finish()
    validation = folds.splits(beats)[0][1]
    label = beats.label[validation]
    placed = DeviceBeats(beats, resolve_device(device))
    index = torch.from_numpy(validation).to(placed.device)
    again = []
    for seed, weights in enumerate(result.weights):
        model = build_model(config.signal, config.model, seed=(0,))
        model.load_state_dict(weights)
        inputs = seed_inputs(config, placed, study_seed=0, seed_index=seed)
        again.append(predict(model.to(placed.device), inputs, index).cpu().numpy())
    return _auprc(result.log_probs[:, validation], label), _auprc(np.stack(again), label)


def _prepared() -> BeatSet:
    from study.data.prepare import prepare
    from study.data.source import find_source

    with tempfile.TemporaryDirectory() as folder:
        source = find_source(workspace=Path())
        return prepare(source, "daeac", "linear", cache_dir=Path(folder))


def _auprc(log_probs: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the AUPRC of every seed and class, [S, C]."""
    group = np.zeros(len(label), dtype=np.int64)
    ranked = rank_within(log_probs, label, group, n_groups=1, min_beats=MIN_CLASS_BEATS)
    return np.asarray(ranked.by_class("auprc"))


if __name__ == "__main__":
    main()
