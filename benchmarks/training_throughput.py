"""What a study trains per second, against the loop that most research code is.

  MITDB_DIR=... python benchmarks/training_throughput.py [--rounds 3]

Every side trains one epoch of all five folds of DS1 and predicts all validation beats, the same
beats in the same batches, with default configuration (`opt1`, `concat_proj`):

- `plain, 2 threads`: Conv2d NCHW, float32, DataLoader with 4 workers, one process of 2 threads;
- `plain, 2 processes`: the same network, tensors in memory, two processes of 1 thread;
- `study, fp32` and `study, bf16`: two processes of 1 thread, as two trials of a study run, the
  second where a study would train so;
- `study, a core busy`: the last of them while another process keeps a core busy.

Sides take turns; each is fresh processes. A rate is trained beats over the wall time of training
and evaluation, processes added up. Prints medians and ranges, and the machine's own peak.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds, make_folds
from study.data.prepare import prepare
from study.data.source import find_source
from study.models.backbone import MACNNSE
from study.training.batches import EpochShape, MemberBeats, epoch_shape
from study.training.device import DeviceBeats
from study.training.engine import WORKER_ENVIRONMENT, Engine, resolve_precision
from study.training.loop import TrialTraining
from study.training.member import build_members
from study.training.seeding import Streams

PLAIN = {"plain, 2 threads": ("plain-loader", 1), "plain, 2 processes": ("plain", 2)}
BUSY = "study, a core busy"

BATCH_OF_EVALUATION = 256


def main() -> None:
    """Run all sides in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="turns (default 3)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run(args.side, args.cache)))
        return
    sides = PLAIN | {"study, fp32": ("fp32", 2)}
    if (fastest := resolve_precision("auto", "cpu")) != "fp32":
        sides[f"study, {fastest}"] = (fastest, 2)
    sides[BUSY] = (fastest, 2)
    rates: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as cache:
        run("prepare", Path(cache))
        for _ in range(args.rounds):
            for name, (side, processes) in sides.items():
                with _busy_core() if name == BUSY else nullcontext():
                    rates[name].append(_side_by_side(side, processes, cache))
    print(
        f"{platform.processor() or platform.machine()}, torch {torch.__version__}, "
        f"{os.cpu_count()} cores, {args.rounds} rounds; trained beats/s, evaluation included"
    )
    base = [statistics.median(rates[name]) for name in PLAIN]
    for name, found in rates.items():
        middle = statistics.median(found)
        ratios = ", ".join(f"{middle / other:.2f}" for other in base)
        print(
            f"{name:<24} {middle:7,.0f} ({min(found):,.0f} to {max(found):,.0f})  "
            f"ratio to the plain ones: {ratios}"
        )
    # Emulated, a product in bfloat16 would take minutes.
    in_bf16 = f", bfloat16 {peak(torch.bfloat16):.0f}" if fastest == "bf16" else ""
    print(
        f"peak of one thread, 2048^3 matrices: float32 {peak(torch.float32):.0f} GFLOP/s"
        f"{in_bf16}; a trained beat takes {3 * flops_per_beat() / 1e6:.0f} MFLOP"
    )


def _side_by_side(side: str, processes: int, cache: str) -> float:
    command = [sys.executable, __file__, "--side", side, "--cache", cache]
    settings = {}
    if not side.startswith("plain"):
        settings = WORKER_ENVIRONMENT
    started = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
        )
        for _ in range(processes)
    ]
    return float(sum(json.loads(process.communicate()[0]) for process in started))


@contextmanager
def _busy_core() -> Iterator[None]:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


def run(side: str, cache: Path) -> float:
    """Return trained beats per second of one process of a side."""
    torch.set_num_threads(2 if side == "plain-loader" else 1)
    config = TrialConfig()
    source = find_source(workspace=Path())
    beats = prepare(source, "daeac", "linear", cache_dir=cache)
    folds = make_folds(
        beats.record_names, beats.counts, n_folds=5, partition_seed=0, patients=source.patients
    )
    if side == "prepare":
        return 0.0
    labels = [beats.label[training] for training, _ in folds.splits(beats)]
    shape = epoch_shape(
        labels,
        normal_beats=config.train.normal_beats_per_epoch,
        batch_size=config.train.batch_size,
    )
    trained = shape.beats * len(labels)
    if side.startswith("plain"):
        return trained / _plain(config, beats, folds, shape, loader=side == "plain-loader")
    training = TrialTraining(
        config, beats, folds, n_seeds=1, study_seed=0, engine=Engine(side, compiled=True)
    )
    began = time.perf_counter()
    training.run_epoch()
    return trained / (time.perf_counter() - began)


def _plain(
    config: TrialConfig, beats: BeatSet, folds: Folds, shape: EpochShape, *, loader: bool
) -> float:
    """Return the seconds that the usual loop takes for one epoch of all folds."""
    placed = DeviceBeats(beats, torch.device("cpu"))
    members = build_members(config, placed, folds.splits(beats), seeds=(0,), study_seed=0)
    data = TensorDataset(
        placed.windows("beat"), torch.from_numpy(beats.rr["published7"].copy()), placed.label
    )
    began = time.perf_counter()
    for fold, ((training, validation), member) in enumerate(
        zip(folds.splits(beats), members, strict=True)
    ):
        model = member.scored
        model.run_backbone = None
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
        dealt = MemberBeats(
            training, beats.label[training], Streams(study_seed=0, seed_index=0, fold=fold)
        ).epoch(0, shape)
        model.train()
        for ecg, rr, label in _batches(data, dealt, loader=loader):
            optimiser.zero_grad()
            loss = functional.cross_entropy(model(ecg, None, rr), label)
            loss.backward()
            optimiser.step()
        model.eval()
        pieces = np.array_split(validation, -(-len(validation) // BATCH_OF_EVALUATION))
        with torch.no_grad():
            for ecg, rr, _ in _batches(data, pieces, loader=loader):
                model(ecg, None, rr).log_softmax(dim=1)
    return time.perf_counter() - began


def _batches(
    data: TensorDataset, batches: Iterable[NDArray[np.int64]], *, loader: bool
) -> Iterator[list[torch.Tensor]]:
    indices = [batch.tolist() for batch in batches]
    if loader:
        yield from DataLoader(data, batch_sampler=indices, num_workers=4)
        return
    for index in indices:
        yield [tensor[index] for tensor in data.tensors]


def peak(dtype: torch.dtype) -> float:
    """Return GFLOP/s of a large matrix product in one thread."""
    torch.set_num_threads(1)
    a = torch.randn(2048, 2048).to(dtype)
    a @ a
    began = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * 2048**3 / (time.perf_counter() - began) / 1e9


def flops_per_beat() -> float:
    """Return multiplications and additions of the backbone's convolutions, one beat forward."""
    total = 0.0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total += 2 * weight[0].numel() * out[0].numel()

    backbone = MACNNSE(channels=1)
    for module in backbone.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    backbone.eval()(torch.zeros(1, 1, 1, 128))
    return total


if __name__ == "__main__":
    main()
