"""Beats trained until a search has found a good configuration, on recorded learning curves.

  MITDB_DIR=... python -m benchmarks.time_to_quality record --workspace DIR   hours; resumable
  python -m benchmarks.time_to_quality replay [--replays 100]                 seconds a method

`record` trains every cell of a space for six epochs, unpruned, with `python -m study.run` itself,
and again for three and for one; then it writes `benchmarks/curves/SPACE.json`. Started again it
goes on where it was. The space is `benchmarks/curves/fusion_grid_sample.toml`: 36 of the 288
cells of `fusion_grid`, a full grid, so that every method searches it as it is and proposes
nothing that was not recorded.

`replay` runs the tool's own driver on the curves. The incumbent is the best complete trial so
far, as the search sees it; its confirmed AUPRC is the recorded one at full budget, the mean over
the recorded seeds. A method has arrived when that is within .01 of the best known of the space.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread

import numpy as np
import torch
from numpy.typing import NDArray
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import HyperbandPruner, MedianPruner, SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from scipy.stats import spearmanr

from benchmarks import recording
from benchmarks.recording import Recording
from benchmarks.replay import BUDGET, CLOSE, Method, Replays, Result
from study.spaces.load import load_space
from study.spaces.space import Space

CURVES = Path(__file__).parent / "curves"
SPACE = CURVES / "fusion_grid_sample.toml"


def _jointly(seed: int) -> TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return TPESampler(seed=seed, multivariate=True, group=True)


METHODS = (
    Method(name="random, full budget", sampler="random", defaults_first=False),
    Method(name="quasi-random, full budget", sampler="qmc", defaults_first=False),
    Method(name="TPE", defaults_first=False),
    Method(
        name="TPE, parameters jointly",
        optuna=_jointly,
        defaults_first=False,
    ),
    Method(name="Gaussian process", sampler="gp", defaults_first=False),
    Method(name="random + ASHA", sampler="random", reduction_factor=3, defaults_first=False),
    Method(name="TPE + ASHA", reduction_factor=3, defaults_first=False),
    Method(name="TPE + ASHA, one in two", reduction_factor=2, defaults_first=False),
    Method(
        name="TPE + successive halving from epoch 1",
        pruner=lambda: SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        defaults_first=False,
    ),
    Method(
        name="TPE + successive halving at epoch 4",
        pruner=lambda: SuccessiveHalvingPruner(min_resource=4, reduction_factor=3),
        defaults_first=False,
    ),
    Method(
        name="TPE + Hyperband",
        pruner=lambda: HyperbandPruner(min_resource=1, max_resource=6, reduction_factor=3),
        defaults_first=False,
    ),
    Method(name="TPE + median rule", pruner=MedianPruner, defaults_first=False),
    Method(name="one-epoch top 5, random", sampler="random", keep=5, defaults_first=False),
    Method(name="one-epoch top 5, TPE", keep=5, defaults_first=False),
    Method(name="TPE, each arm's defaults first"),
    Method(name="TPE + ASHA, each arm's defaults first", reduction_factor=3),
    Method(name="screening, then each arm's best, random", sampler="random", screening=True),
    Method(name="the default: screening, then each arm's best, TPE", screening=True),
    Method(name="TPE, three epochs", defaults_first=False, epochs=3),
    Method(name="screening, then each arm's best for three epochs, TPE", screening=True, epochs=3),
)
"""The first is what the others are compared with."""


def main() -> int:
    """Record curves, or replay searches on them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    record_ = commands.add_parser("record", help="train every cell, hours")
    record_.add_argument("--workspace", type=Path, required=True, help="where the studies lie")
    record_.add_argument("--space", type=Path, default=SPACE, help="a search space, whole grid")
    record_.add_argument("--epochs", type=int, nargs="+", default=[6, 3, 1], help="default 6 3 1")
    record_.add_argument("--seeds", type=int, nargs="+", default=[0], help="default 0")
    replay_ = commands.add_parser("replay", help="compare methods, seconds a method")
    replay_.add_argument("--curves", type=Path, default=SPACE.with_suffix(".json"))
    replay_.add_argument("--replays", type=int, default=100, help="of each method (default 100)")
    replay_.add_argument("--only", default="", help="methods whose names have this")
    args = parser.parse_args()
    if args.command == "record":
        return record(args.workspace, args.space.resolve(), args.epochs, args.seeds)
    replay(args.curves, args.replays, args.only)
    return 0


def record(workspace: Path, path: Path, horizons: Sequence[int], seeds: Sequence[int]) -> int:
    """Train what is not trained yet; write the curves. Return the exit code of the command."""
    workspace.mkdir(parents=True, exist_ok=True)
    for horizon in horizons:
        for seed in seeds:
            name = _study(path, horizon, seed)
            words = ["--space", str(path), "--name", name, "--no-track"]
            words += ["--epochs", str(horizon), "--seed", str(seed)]
            if (workspace / "studies" / name / "plan.json").exists():
                words.append("--resume")
            code = subprocess.run(
                [sys.executable, "-m", "study.run", *words], cwd=workspace
            ).returncode
            if code:
                return code
    target = CURVES / f"{path.stem}.json"
    export(workspace, path, horizons, seeds).write(target)
    print(f"wrote {target}")
    return 0


def _study(path: Path, horizon: int, seed: int) -> str:
    return f"{path.stem}-{horizon}-{seed}"


def export(
    workspace: Path, path: Path, horizons: Sequence[int], seeds: Sequence[int]
) -> Recording:
    """Return the curves of finished studies."""
    from study.data.beat_set import default_cache_dir
    from study.data.prepare import prepare_all
    from study.data.source import find_source
    from study.store.folder import study_folder
    from study.store.plan import StudyPlan
    from study.training.batches import epoch_shape
    from study.tuning.machine import provenance
    from study.tuning.setup import plan_folds

    space = load_space(path)
    cells = list(space.grid())
    curves = {
        horizon: np.stack(
            [
                recording.complete_curves(
                    cells, _trials(workspace, _study(path, horizon, seed)), horizon
                )
                for seed in seeds
            ]
        )
        for horizon in horizons
    }
    source = find_source(workspace=workspace)
    beats = prepare_all(source, space.cuts(), cache_dir=default_cache_dir(workspace), study_seed=0)
    first = next(iter(beats.values()))
    training = [mask for mask, _ in plan_folds(space, first, source, 0).splits(first)]
    train = space.configurations()[0].train
    shape = epoch_shape(
        [first.label[mask] for mask in training],
        normal_beats=train.normal_beats_per_epoch,
        batch_size=train.batch_size,
    )
    plan = StudyPlan.load(study_folder(workspace, _study(path, max(horizons), seeds[0])))
    return Recording(
        space=path.name,
        digest=space.digest,
        beats_per_epoch=space.seeds * len(training) * shape.beats,
        cells=cells,
        curves=curves,
        provenance={
            **provenance("cpu"),
            "engine": plan.engine,
            "records": plan.data_source,
            "cores": str(os.cpu_count()),
        },
    )


def _trials(workspace: Path, name: str) -> Iterator[tuple[recording.Params, dict[int, float]]]:
    import optuna

    storage = f"sqlite:///{workspace / 'studies' / name / 'study.db'}"
    for trial in optuna.load_study(study_name=name, storage=storage).trials:
        yield trial.params, trial.intermediate_values


def replay(path: Path, n_replays: int, only: str) -> None:
    """Replay all methods and print the table."""
    curves, space = _load(path)
    _describe(curves)
    print(
        "| method | thousand beats to arrive | random / this | arrived in 30 trials |"
        " AUPRC of the winner of 30 | its thousand beats |"
    )
    print("|---|---:|---:|---:|---:|---:|")
    chosen = [index for index, method in enumerate(METHODS) if only in method.name or not index]
    workers = os.cpu_count() or 1
    base = math.nan
    began = time.perf_counter()
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_end_with_parent
    ) as pool:
        for index in chosen:
            if METHODS[index].keep and 1 not in curves.curves:
                print(f"| {METHODS[index].name} | no curves of one epoch | | | | |")
                continue
            parts = [range(start, n_replays, workers) for start in range(workers)]
            jobs = [pool.submit(_replays, path, index, seeds) for seeds in parts]
            results = [result for job in jobs for result in job.result()]
            base = _middle(results) if not index else base
            print(_row(METHODS[index], results, base), flush=True)
    print(f"\n{n_replays} replays of {len(chosen)} methods in {time.perf_counter() - began:.0f} s")


def _end_with_parent() -> None:
    """End this process of a pool when the one that made it is killed; else it works on."""
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    Thread(target=watch, daemon=True).start()


def _load(path: Path) -> tuple[Recording, Space]:
    curves = recording.read(path)
    space = load_space(path.parent / curves.space)
    if space.digest != curves.digest:
        raise SystemExit(f"{path}: was recorded on another {curves.space}; record it again")
    return curves, space


@cache
def _table(path: Path) -> Replays:
    torch.set_num_threads(1)  # the Gaussian process is small, and replays run side by side
    return Replays(*_load(path))


def _replays(path: Path, index: int, seeds: range) -> list[Result]:
    return [_table(path).run(METHODS[index], seed) for seed in seeds]


def _describe(curves: Recording) -> None:
    confirmed = curves.confirmed()
    best = confirmed.max()
    n_close = int((confirmed >= best - CLOSE).sum())
    last = curves.curves[curves.horizon][:, :, -1]
    print(
        f"{len(curves.cells)} cells of {curves.space}, {curves.n_seeds} seed(s) each, "
        f"{curves.beats_per_epoch:,} beats an epoch, {curves.provenance['engine']}, "
        f"commit {curves.provenance['git_commit'][:7]}\n"
        f"confirmed AUPRC S+V: {confirmed.min():.3f} to {best:.3f}, "
        f"sd {confirmed.std():.3f}; {n_close} cells are within {CLOSE} of the best"
    )
    # Of cells in random order, the first that is close to the best is this one on average.
    first = (len(confirmed) + 1) / (n_close + 1)
    bound = (first + curves.horizon - 1) / (first * curves.horizon)
    print(
        "a search that knew every last score after the first epoch, and took cells as they come, "
        f"would train {bound:.2f} of the beats of random search"
    )
    if curves.n_seeds > 1:
        print("rank correlation of one seed's scores and another's after the full budget:")
    for horizon in sorted(curves.curves if curves.n_seeds > 1 else ()):
        seen = [curves.seen(horizon, seed) for seed in range(curves.n_seeds)]
        ranks = [f"{_repeats(seen, last, epoch):.2f}" for epoch in range(horizon)]
        print(f"- trials of {horizon} epoch(s), after each epoch: {', '.join(ranks)}")
    print()


def _repeats(seen: Sequence[NDArray[np.float64]], last: NDArray[np.float64], epoch: int) -> float:
    """Return how well scores after an epoch rank cells as the last scores of other seeds do."""
    pairs = itertools.permutations(range(len(last)), 2)
    return float(np.mean([spearmanr(seen[a][:, epoch], last[b]).statistic for a, b in pairs]))


def _middle(results: Sequence[Result]) -> float:
    return float(np.percentile([result.beats for result in results], 50, method="higher"))


def _row(method: Method, results: Sequence[Result], base: float) -> str:
    beats = np.array([result.beats for result in results]) / 1e3
    low, high = np.percentile(beats, [10, 90], method="higher")
    middle = _middle(results) / 1e3
    winner = np.array([result.winner for result in results])
    arrived = np.mean([result.configurations <= BUDGET for result in results])
    spent = np.median([result.winner_beats for result in results]) / 1e3
    return (
        f"| {method.name} | {_count(middle)} ({_count(low)} to {_count(high)}) | "
        f"{base / 1e3 / middle:.2f} | {arrived:.0%} | "
        f"{winner.mean():.4f} ({np.percentile(winner, 10):.4f}) | {spent:,.0f} |"
    )


def _count(thousands: float) -> str:
    return f"{thousands:,.0f}" if math.isfinite(thousands) else "never"


if __name__ == "__main__":
    sys.exit(main())
