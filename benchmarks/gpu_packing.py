"""What packing a trial's members into one model gains on a GPU.

  MITDB_DIR=... python benchmarks/gpu_packing.py --export beats.bin   write DS1's prepared beats
  python benchmarks/gpu_packing.py --beats beats.bin                  members per hour
  python benchmarks/gpu_packing.py --beats beats.bin --quality        and what they score

The first command needs the records and the whole installation; the others need PyTorch, NumPy and
this repository, so that they run on a bare GPU machine. 1, 5, 15 and 30 members are trained for
one epoch of the default configuration in several ways, in turn, in several rounds: one after the
other (serial), in four processes that share the GPU as trials at 0.25 GPU each do (`--ray`: by Ray
itself), packed, packed as a CUDA graph, and that with a compiled forward pass, TF32 and bfloat16.
DS2 is not read.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from study.config import TrialConfig
from study.data.beatset import BeatSet
from study.data.cache import load, store
from study.data.splits import Folds, make_folds
from study.keys import AUPRC_SV
from study.training.device import DeviceBeats, resolve_device, synchronise
from study.training.engine import Engine
from study.training.ensemble import build_members
from study.training.loop import TrialTraining
from study.training.member import Member
from study.training.packed import Packed
from study.training.serial import Serial, Trainer

KEY, N_FOLDS, PROCESSES = "gpu_packing", 5, 4

WAYS: dict[str, tuple[str, dict[str, bool]]] = {
    "serial": ("fp32", {}),
    f"{PROCESSES} processes": ("fp32", {}),
    "packed": ("fp32", {"graphed": False}),
    "packed, graph": ("fp32", {"graphed": True}),
    "packed, graph, TF32": ("tf32", {"graphed": True}),
    "packed, graph, bfloat16": ("bf16", {"graphed": True}),
    "packed, graph, compiled": ("fp32", {"graphed": True, "compiled": True}),
    "packed, graph, compiled, bfloat16": ("bf16", {"graphed": True, "compiled": True}),
}
"""Precision, and options of the pack."""


def main() -> None:
    """Export the beats, or measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--export", type=Path, metavar="FILE", help="write DS1's prepared beats")
    parser.add_argument("--beats", type=Path, metavar="FILE", help="what --export wrote")
    parser.add_argument("--device", default="cuda", help="default cuda; cpu leaves graphs out")
    parser.add_argument("--members", type=int, nargs="+", default=[1, 5, 15, 30], metavar="K")
    parser.add_argument("--fusion", default="concat_proj", help="default concat_proj")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS, metavar="WAY")
    parser.add_argument("--ray", action="store_true", help="let Ray place the four processes")
    parser.add_argument("--quality", action="store_true", help="train to the end and score")
    parser.add_argument("--seeds", type=int, default=3, help="of --quality (default 3)")
    args = parser.parse_args()
    if args.export:
        export(args.export)
        return
    beats = load(args.beats, KEY) if args.beats else None
    if beats is None:
        parser.error("--beats: give a file that --export wrote")
    config = TrialConfig.from_flat({"input": "opt1", "fusion": args.fusion})
    device = resolve_device(args.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}, {args.fusion}, batch {config.train.batch_size}")
    ways = [way for way in args.ways if on_gpu or "graph" not in way]
    if args.quality:
        compare_scores(config, beats, device, ways, args.seeds)
        return
    show_ceilings(device)
    for n_members in args.members:
        compare_speed(config, args.beats, device, n_members, ways, args.rounds, by_ray=args.ray)


def export(path: Path) -> None:
    """Write DS1's beats to one file."""
    from study.data.prepare import prepare
    from study.data.source import find_source

    source = find_source(data_dir=None, records_dir=None, split_file=None, workspace=Path())
    store(path, KEY, prepare(source, "daeac", "linear", cache_dir=path.parent / "prepared"))
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")


def compare_speed(
    config: TrialConfig,
    path: Path,
    device: torch.device,
    n_members: int,
    ways: Sequence[str],
    rounds: int,
    *,
    by_ray: bool,
) -> None:
    """Print members per hour of each way: median and range over rounds."""
    beats = load(path, KEY)
    assert beats is not None
    rates: dict[str, list[float]] = {way: [] for way in ways}
    work = step_work(members_of(config, beats, device, 1)[0])
    for _ in range(rounds):
        for way in ways:
            if way == f"{PROCESSES} processes":
                seconds = shared_seconds(config, path, str(device), n_members, by_ray=by_ray)
                rates[way].append(PROCESSES * n_members / seconds)
            else:
                members = members_of(config, beats, device, n_members)
                seconds = epoch_seconds(trainer_of(way, members), device)
                rates[way].append(n_members / seconds)
    beats_each = members_of(config, beats, device, 1)[0].shape.beats
    print(f"\n{n_members} members, {rounds} rounds")
    print("| | members/hour | range | to serial | TFLOP/s | GB/s, at least |")
    print("|---|---:|---:|---:|---:|---:|")
    serial = statistics.median(rates.get("serial", [float("nan")]))
    for way, values in rates.items():
        per_hour = [3600 / config.train.epochs * value for value in values]
        median = statistics.median(values)
        flops, moved = (median * beats_each * each for each in work)
        print(
            f"| {way} | {statistics.median(per_hour):,.0f} "
            f"| {min(per_hour):,.0f} to {max(per_hour):,.0f} | {median / serial:.2f} "
            f"| {flops / 1e12:.2f} | {moved / 1e9:,.0f} |"
        )


def compare_scores(
    config: TrialConfig,
    beats: BeatSet,
    device: torch.device,
    ways: Sequence[str],
    n_seeds: int,
) -> None:
    """Print the final score of the whole trial in each way, seed by seed spread beside it."""
    print(f"{N_FOLDS} folds x {n_seeds} seeds, {config.train.epochs} epochs")
    print("| | AUPRC S+V | sd over seeds | train s |\n|---|---:|---:|---:|")
    folds = folds_of(beats)
    for way in ways:
        if way == f"{PROCESSES} processes":
            continue
        precision, options = WAYS[way]
        training = TrialTraining(
            config,
            beats,
            folds,
            n_seeds=n_seeds,
            study_seed=0,
            device=str(device),
            engine=_Way(precision, packed=bool(options), way=way),
        )
        seconds = 0.0
        while not training.finished:
            report = training.run_epoch()
            seconds += report.seconds_train
        sd = report.metrics[f"{AUPRC_SV}_seed_sd"]
        print(f"| {way} | {report.metrics[AUPRC_SV]:.4f} | {sd:.4f} | {seconds:.1f} |")


class _Way(Engine):
    """An engine whose trainer is one of `WAYS`."""

    way: str

    def __init__(self, precision: str, *, packed: bool, way: str) -> None:
        super().__init__(precision, packed=packed)
        object.__setattr__(self, "way", way)

    def trainer(self, members: Sequence[Member]) -> Trainer:
        """Return what trains the members in this way."""
        return trainer_of(self.way, members)


def trainer_of(way: str, members: Sequence[Member]) -> Trainer:
    """Return what trains members in a way."""
    precision, options = WAYS[way]
    on_gpu = members[0].device.type == "cuda"
    if on_gpu:
        kind = "tf32" if precision == "tf32" else "ieee"
        torch.backends.cudnn.conv.fp32_precision = kind  # type: ignore[attr-defined]
        torch.backends.cuda.matmul.fp32_precision = kind
    if not options:
        return Serial(members)
    autocast = torch.bfloat16 if precision == "bf16" else None
    return Packed(members, largest=len(members), autocast=autocast, **options)


def folds_of(beats: BeatSet) -> Folds:
    """Return the folds; every record is its own patient in DS1 (201 and 202 are apart)."""
    patients = {name: name for name in beats.record_names}
    return make_folds(
        beats.record_names, beats.counts(), n_folds=N_FOLDS, partition_seed=0, patients=patients
    )


def members_of(
    config: TrialConfig, beats: BeatSet, device: torch.device, n_members: int
) -> list[Member]:
    """Return fresh members: fold by fold, seed by seed."""
    members = build_members(
        config,
        DeviceBeats(beats, device),
        folds_of(beats).masks(beats),
        seeds=range(-(-n_members // N_FOLDS)),
        study_seed=0,
        engine=Engine(),
    )
    return members[:n_members]


def epoch_seconds(trainer: Trainer, device: torch.device) -> float:
    """Return the seconds of an epoch; the one before it warms up, compiles and captures."""
    trainer.train_epoch(0)
    synchronise(device)
    began = time.perf_counter()
    trainer.train_epoch(1)
    synchronise(device)
    return time.perf_counter() - began


def shared_seconds(
    config: TrialConfig, path: Path, device: str, n_members: int, *, by_ray: bool
) -> float:
    """Return the seconds in which several processes train an epoch of `n_members` each."""
    jobs = [(config, path, device, n_members)] * PROCESSES
    if by_ray:
        import ray

        ray.init(ignore_reinit_error=True, include_dashboard=False)
        task = ray.remote(num_gpus=1 / PROCESSES if device != "cpu" else 0)(_interval)
        spans = ray.get([task.remote(job) for job in jobs])
    else:
        with get_context("spawn").Pool(PROCESSES) as pool:
            spans = pool.map(_interval, jobs, chunksize=1)
    # All of them were busy from the last start to the first end; what hangs over is dropped.
    start, end = max(span[0] for span in spans), min(span[1] for span in spans)
    done = sum((end - start) / (span[1] - span[0]) * span[2] for span in spans) / PROCESSES
    return (end - start) / done if end > start else float("nan")


def _interval(job: tuple[TrialConfig, Path, str, int]) -> tuple[float, float, int]:
    """Train epochs for a while; return the start, the end, and the epochs between them."""
    config, path, device_name, n_members = job
    torch.set_num_threads(1)
    device = resolve_device(device_name)
    beats = load(path, KEY)
    assert beats is not None
    trainer = Serial(members_of(config, beats, device, n_members))
    trainer.train_epoch(0)
    synchronise(device)
    start, epochs = time.time(), 0
    # Long enough that the processes overlap although they do not start together.
    while epochs < 3 or time.time() - start < 20:
        trainer.train_epoch(epochs % config.train.epochs)
        synchronise(device)
        epochs += 1
    return start, time.time(), epochs


def step_work(member: Member) -> tuple[float, float]:
    """Return operations of a beat's training step, and bytes that it moves at the least.

    Counted of the network as written: what the backward pass keeps is written once, read once,
    and met by a gradient of its size.
    """
    index = torch.from_numpy(member.batches(0)[0]).to(member.device)
    batch = member.inputs.take(index)
    kept: dict[int, tuple[int, Tensor]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    counter = FlopCounterMode(display=False)
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = member.model.train()(batch.ecg, batch.early_rr, batch.late_rr)
        torch.autograd.backward(member.loss(outputs, member.label[index]))
    n_beats = len(index)
    return counter.get_total_flops() / n_beats, 3 * sum(n for n, _ in kept.values()) / n_beats


def show_ceilings(device: torch.device) -> None:
    """Print what large products and copies reach here."""
    size = 8192 if device.type == "cuda" else 1024
    found = []
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(size, size, device=device, dtype=dtype)
        seconds = best(partial(torch.mm, a, a), device)
        found.append(f"{name} {2 * size**3 / seconds / 1e12:.1f} TFLOP/s")
    source = torch.zeros(size * size, device=device)
    seconds = best(source.clone, device)
    print(f"ceilings: {', '.join(found)}, copy {8 * size * size / seconds / 1e9:,.0f} GB/s")


def best(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of a call, the best of ten after one that is not counted."""

    def timed() -> Iterator[float]:
        for _ in range(11):
            synchronise(device)
            began = time.perf_counter()
            call()
            synchronise(device)
            yield time.perf_counter() - began

    return float(np.min(list(timed())[1:]))


if __name__ == "__main__":
    main()
