"""One packed step on a GPU: that it is exact, what memory it takes, where its time goes.

  MITDB_DIR=... python benchmarks/gpu_packing.py --export beats.bin   write DS1's prepared beats
  python -m benchmarks.gpu_step --beats beats.bin

Needs PyTorch, NumPy and this repository. For every fusion, members are trained for one epoch in
float64 one after the other, packed, packed as a CUDA graph, and that compiled: the largest
difference of any weight, to the largest weight of its tensor, is printed, and more than 1e-6 ends
with exit code 1.
DS2 is not read.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_packing import KEY, WAYS, members_of, trainer_of
from study.config import TrialConfig
from study.data.beat_set import BeatSet, load_cached
from study.models.fusion import FUSIONS
from study.training.device import resolve_device, synchronise
from study.training.engine import Engine
from study.training.packs import Packed
from study.training.serial import Serial, Trainer

TOLERANCE = 1e-6


def main() -> int:
    """Check, count, profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--beats", type=Path, required=True, help="what gpu_packing.py exported")
    parser.add_argument("--device", default="cuda", help="default cuda; cpu leaves graphs out")
    parser.add_argument("--fusions", nargs="+", default=list(FUSIONS), choices=FUSIONS)
    parser.add_argument("--members", type=int, default=15, help="of what is profiled (default 15)")
    parser.add_argument(
        "--ways",
        nargs="*",
        default=["packed, graph, compiled"],
        choices=WAYS,
        metavar="WAY",
        help="to profile",
    )
    args = parser.parse_args()
    beats = load_cached(args.beats, KEY)
    if beats is None:
        parser.error(f"--beats {args.beats}: gpu_packing.py --export did not write it")
    device = resolve_device(args.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}")
    worst = np.max([agreement(fusion, beats, device) for fusion in args.fusions])
    if on_gpu:
        count_memory(beats, device)
        for way in args.ways:
            show_kernels(way, beats, device, args.members)
    return 0 if worst <= TOLERANCE else 1


def configuration(fusion: str, **values: object) -> TrialConfig:
    """Return a configuration of a fusion; early channels and a late vector where it takes both."""
    takes_both = FUSIONS[fusion].takes_late_rr and fusion != "rr_only"
    which = "opt3" if takes_both else "opt1" if fusion == "rr_only" else "opt2"
    return TrialConfig.from_flat({"input": which, "fusion": fusion, **values})


def agreement(fusion: str, beats: BeatSet, device: torch.device) -> float:
    """Print and return how far packed members are from members trained in turn."""
    config = configuration(fusion, dropout=0.0, normal_beats_per_epoch=1000)
    engine = Engine(precision="fp64")
    kinds: list[dict[str, bool] | None] = [None, {}]
    if device.type == "cuda":
        kinds += [{"graphed": True}, {"graphed": True, "compiled": True}]
    states = []
    for options in kinds:
        members = members_of(config, beats, device, 3, engine=engine)
        for member in members:
            # As CUDA's fused optimiser takes it from a pack.
            exact = member.learning_rate
            member.learning_rate = partial(rounded, exact)  # type: ignore[method-assign]
        trainer: Trainer = Serial(members)
        if options is not None:
            trainer = Packed(members, largest=3, **options)
        trainer.train_epoch(0)
        states.append([state["model"] for state in trainer.state_dicts()])
    # Not by `max`, which loses a NaN.
    found = [
        np.max(
            [
                float((own[name] - other[name]).abs().max() / own[name].abs().max().clamp(1e-12))
                for own, other in zip(states[0], packed, strict=True)
                for name in own
                if own[name].is_floating_point() and own[name].numel()
            ]
        )
        for packed in states[1:]
    ]
    steps = members[0].shape.batches
    print(f"{fusion}: {steps} steps, {', '.join(f'{value:.1e}' for value in found)}", flush=True)
    return float(np.max(found))


def rounded(rate: Callable[[int], float], step: int) -> float:
    """Return the learning rate of a step in float32."""
    return float(np.float32(rate(step)))


def count_memory(beats: BeatSet, device: torch.device) -> None:
    """Print what a step of 15 members takes, and a process that has only begun."""
    free, total = torch.cuda.mem_get_info(device)
    context = total - free - torch.cuda.memory_reserved(device)
    print(f"outside of PyTorch's allocator: {context / 2**20:,.0f} MiB, others' included")
    for fusion in ("concat_proj", "mhca_time"):
        members = members_of(configuration(fusion), beats, device, 15)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_reserved(device)
        trainer_of("packed, graph", members).train_epoch(0)
        after = torch.cuda.max_memory_reserved(device)
        per_beat = (after - before) / (15 * members[0].shape.batch_size)
        print(f"{fusion}: 15 members, {per_beat / 2**20:.2f} MiB a beat of a step", flush=True)


def show_kernels(way: str, beats: BeatSet, device: torch.device, n_members: int) -> None:
    """Print the kernels that an epoch's time goes to."""
    members = members_of(configuration("concat_proj"), beats, device, n_members)
    trainer = trainer_of(way, members)
    trainer.train_epoch(0)
    synchronise(device)
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        trainer.train_epoch(1)
        synchronise(device)
    events = profiler.key_averages()
    whole = sum(event.self_device_time_total for event in events)
    steps = members[0].shape.batches
    print(f"\n{way}, {n_members} members: {whole / steps / 1000:.3f} ms of kernels a step")
    print("| kernel | share | a step |\n|---|---:|---:|")
    for event in sorted(events, key=lambda event: -event.self_device_time_total)[:25]:
        share = event.self_device_time_total / whole
        print(f"| {event.key[:110]} | {share:.1%} | {event.count / steps:.1f} |")


if __name__ == "__main__":
    sys.exit(main())
