"""What packing a trial's members into one model gains on a GPU.

  MITDB_DIR=... python benchmarks/gpu_packing.py --export beats.bin   write DS1's prepared beats
  python benchmarks/gpu_packing.py --beats beats.bin                  members per hour
  python benchmarks/gpu_packing.py --beats beats.bin --quality        and what they score

The first command needs the records and the whole installation; the others need PyTorch, NumPy and
this repository, so that they run on a bare GPU machine. 1, 5, 15 and 30 members of the default
configuration are trained in several ways, in turn, in several rounds: one after the other
(serial), in four processes that share the GPU as trials at 0.25 GPU each would (by Ray too, where
it is installed), packed, packed as a CUDA graph, that with compiled kernels, in TF32 and bfloat16,
and in four such processes.
How many members wait for their turn changes nothing of serial training: a round measures that and
the processes that do it once. `gpu_step.py` looks at a single step. DS2 is not read.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
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
from study.data.beat_set import BeatSet, load_cached, store_cached
from study.data.folds import Folds, make_folds
from study.keys import AUPRC_SV
from study.training.device import DeviceBeats, resolve_device, synchronise
from study.training.engine import Engine, compute_exactly
from study.training.loop import TrialTraining
from study.training.member import Member, build_members
from study.training.packs import Packed
from study.training.serial import Serial, Trainer

KEY, N_FOLDS, PROCESSES = "gpu_packing", 5, 4

IN_TURN = 3
"""Members that serial training is measured on; in a process, one after the other for a while."""

SECONDS = 1.5
"""A way trains whole epochs for so long at least."""

APART = f"{PROCESSES} processes"

WAYS: dict[str, tuple[str, dict[str, bool]]] = {
    "serial": ("fp32", {}),
    APART: ("fp32", {}),
    f"{APART}, Ray": ("fp32", {}),
    f"{APART}, packed, graph, compiled": ("fp32", {"graphed": True, "compiled": True}),
    "packed": ("fp32", {"graphed": False}),
    "packed, graph": ("fp32", {"graphed": True}),
    "packed, graph, compiled": ("fp32", {"graphed": True, "compiled": True}),
    "packed, graph, compiled, TF32": ("tf32", {"graphed": True, "compiled": True}),
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
    parser.add_argument("--quality", action="store_true", help="train to the end and score")
    parser.add_argument("--seeds", type=int, default=3, help="of --quality (default 3)")
    args = parser.parse_args()
    if args.export:
        export(args.export)
        return
    beats = load_cached(args.beats, KEY) if args.beats else None
    if beats is None:
        parser.error("--beats: give a file that --export wrote")
    config = TrialConfig.from_flat({"input": "opt1", "fusion": args.fusion})
    device = resolve_device(args.device)
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(f"{name}, torch {torch.__version__}, {args.fusion}, batch {config.train.batch_size}")
    has_ray = importlib.util.find_spec("ray") is not None
    ways = [
        way
        for way in args.ways
        if (on_gpu or "graph" not in way) and (has_ray or not way.endswith("Ray"))
    ]
    for way in args.ways:
        if way not in ways:
            print(f"left out, as there is no {'Ray' if way.endswith('Ray') else 'GPU'}: {way}")
    if args.quality:
        compare_scores(config, beats, device, ways, args.seeds)
        return
    show_ceilings(device)
    compare_speed(config, args.beats, device, args.members, ways, args.rounds)


def export(path: Path) -> None:
    """Write DS1's beats to one file."""
    from study.data.prepare import prepare
    from study.data.source import find_source

    source = find_source(workspace=Path())
    store_cached(path, KEY, prepare(source, "daeac", "linear", cache_dir=path.parent / "prepared"))
    print(f"{path}: {path.stat().st_size / 2**20:.0f} MiB")


def compare_speed(
    config: TrialConfig,
    path: Path,
    device: torch.device,
    sizes: Sequence[int],
    ways: Sequence[str],
    rounds: int,
) -> None:
    """Print members per hour of each way: median and range over rounds."""
    beats = load_cached(path, KEY)
    assert beats is not None
    one = members_of(config, beats, device, 1)[0]
    work = step_work(one)
    rates: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds):
        alone: dict[str, float] = {}
        for n_members in sizes:
            for way in ways:
                rate = alone.get(way)
                if rate is None and way.startswith(APART):
                    rate = shared_rate(config, path, str(device), way, n_members)
                elif rate is None:
                    rate = own_rate(config, beats, device, way, n_members)
                if not WAYS[way][1]:
                    alone[way] = rate
                rates.setdefault((way, n_members), []).append(rate)
        print(f"round {number + 1} of {rounds} done", flush=True)
    for n_members in sizes:
        print(f"\n{n_members} members, {rounds} rounds")
        print("| | members/hour | range | to serial | TFLOP/s | GB/s, at least |")
        print("|---|---:|---:|---:|---:|---:|")
        for way in ways:
            values = rates[way, n_members]
            median = statistics.median(values)
            serial = statistics.median(rates.get(("serial", n_members), [float("nan")]))
            low, middle, high = (
                3600 / config.train.epochs * value for value in (min(values), median, max(values))
            )
            flops, moved = (median * one.shape.beats * each for each in work)
            print(
                f"| {way} | {middle:,.0f} | {low:,.0f} to {high:,.0f} | {median / serial:.2f} "
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
    print("| | AUPRC S+V | sd over seeds | train s | and predict s | and the rest s |")
    print("|---|---:|---:|---:|---:|---:|")
    folds = folds_of(beats)
    for way in ways:
        if way.startswith(APART):
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
        began, seconds = time.perf_counter(), 0.0
        while not training.finished:
            report = training.run_epoch()
            seconds += report.seconds_train
        predicted = time.perf_counter()
        training.finish()
        finished = time.perf_counter()
        sd = report.metrics[f"{AUPRC_SV}_seed_sd"]
        print(
            f"| {way} | {report.metrics[AUPRC_SV]:.4f} | {sd:.4f} | {seconds:.1f} "
            f"| {predicted - began:.1f} | {finished - began:.1f} |"
        )


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
    if members[0].device.type == "cuda":
        compute_exactly()
    if not options:
        return Serial(members)
    dtype, tf32 = torch.bfloat16 if precision == "bf16" else None, precision == "tf32"
    return Packed(members, largest=len(members), dtype=dtype, tf32=tf32, **options)


def folds_of(beats: BeatSet) -> Folds:
    """Return the folds; every record is its own patient in DS1 (201 and 202 are apart)."""
    patients = {name: name for name in beats.record_names}
    return make_folds(
        beats.record_names, beats.counts, n_folds=N_FOLDS, partition_seed=0, patients=patients
    )


def members_of(
    config: TrialConfig,
    beats: BeatSet,
    device: torch.device,
    n_members: int,
    *,
    engine: Engine | None = None,
) -> list[Member]:
    """Return fresh members: fold by fold, seed by seed."""
    engine = engine or Engine()
    members = build_members(
        config,
        DeviceBeats(beats, device),
        folds_of(beats).splits(beats),
        seeds=range(-(-n_members // N_FOLDS)),
        study_seed=0,
        dtype=engine.weights,
        run_backbone=engine.backbone(device),
    )
    return members[:n_members]


def own_rate(
    config: TrialConfig, beats: BeatSet, device: torch.device, way: str, n_members: int
) -> float:
    """Return the epochs of a member that this process trains in a second."""
    in_turn = not WAYS[way][1]
    members = members_of(config, beats, device, IN_TURN if in_turn else n_members)
    start, end, done = interval(trainer_of(way, members), len(members), device, SECONDS)
    return done / (end - start)


def shared_rate(config: TrialConfig, path: Path, device: str, way: str, n_members: int) -> float:
    """Return the epochs of a member that several processes train in a second, all together."""
    jobs = [(config, path, device, way, n_members)] * PROCESSES
    if way.endswith("Ray"):
        import ray

        root = str(Path(__file__).parents[1])
        sys.path.append(root)
        # By name, as this file, run as a script, cannot be sent to a worker.
        from benchmarks.gpu_packing import _interval as by_name

        path_of = {"PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        ray.init(
            ignore_reinit_error=True,
            include_dashboard=False,
            runtime_env={"env_vars": path_of},
        )
        task = ray.remote(num_gpus=1 / PROCESSES if device != "cpu" else 0)(by_name)
        spans = ray.get([task.remote(job) for job in jobs])
    else:
        with get_context("spawn").Pool(PROCESSES) as pool:
            spans = pool.map(_interval, jobs, chunksize=1)
    # All of them were busy from the last start to the first end; what hangs over is dropped.
    start, end = max(span[0] for span in spans), min(span[1] for span in spans)
    if end <= start:
        return float("nan")
    return sum((done / (last - first) for first, last, done in spans), 0.0)


def _interval(job: tuple[TrialConfig, Path, str, str, int]) -> tuple[float, float, int]:
    """Train for a while in a process of its own; return what `interval` does."""
    config, path, device_name, way, n_members = job
    torch.set_num_threads(1)
    device = resolve_device(device_name)
    beats = load_cached(path, KEY)
    assert beats is not None
    members = members_of(config, beats, device, n_members if WAYS[way][1] else 1)
    # Long enough that the processes overlap although they do not start together.
    return interval(trainer_of(way, members), len(members), device, 8 * SECONDS)


def interval(
    trainer: Trainer, n_members: int, device: torch.device, seconds: float
) -> tuple[float, float, int]:
    """Train whole epochs for a while; return the start, the end, and the members' epochs.

    The epoch before warms up, compiles and captures.
    """
    trainer.train_epoch(0)
    synchronise(device)
    start, epochs = time.time(), 0
    while not epochs or time.time() - start < seconds:
        trainer.train_epoch(1 + epochs % 5)
        synchronise(device)
        epochs += 1
    return start, time.time(), epochs * n_members


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
    kinds = [("float32", torch.float32, "ieee"), ("bfloat16", torch.bfloat16, "ieee")]
    if device.type == "cuda":
        kinds.insert(1, ("TF32", torch.float32, "tf32"))
    for name, dtype, product in kinds:
        torch.backends.cuda.matmul.fp32_precision = product
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
