"""What the driver pays for a trial as a study grows: sampler, pruner and Optuna storage alone.

  python -m benchmarks.ledger_growth [--trials 2000] [--samplers random tpe]

`fusion_tuning` without Ray, workers and tracker, in SQLite on this disk: each trial is proposed,
reports six epochs of a made-up objective and 39 more metrics, of which asha stops some, and is
closed. Processor seconds of a trial, by hundreds of trials: mean of the first hundred and of later
ones.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna

from benchmarks.orchestration import idle_setup
from study.keys import AUPRC_SV, EPOCH, Outcome, Tag
from study.spaces.optuna_space import make_sampler
from study.store.ledger import Ledger
from study.tuning.conductor import Conductor
from study.tuning.progress import Progress
from study.tuning.proposals import Proposals
from study.tuning.setup import Setup
from study.tuning.trial import BUSY_SECONDS, METRICS, NOTE

BLOCK = 100

OTHER_METRICS = [f"val_metric_{number}" for number in range(39)]
"""An epoch of a real trial reports some 40."""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe"])
    args = parser.parse_args()
    blocks = sorted({1, *(args.trials // BLOCK * k // 4 for k in range(1, 5))} - {0})
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before; optuna {optuna.__version__}, once\n"
    )
    print("| sampler |" + "".join(f" to {block * BLOCK:,} |" for block in blocks))
    print("|---|" + "---:|" * len(blocks))
    for sampler in args.samplers:
        spent = grow(args.trials, sampler)
        means = [float(np.mean(spent[(b - 1) * BLOCK : b * BLOCK])) for b in blocks]
        row = "".join(f" {mean:.3f} |" for mean in means)
        print(f"| {sampler} |{row}", flush=True)


def grow(trials: int, sampler: str) -> list[float]:
    """Return the processor seconds of each trial."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        setup = idle_setup(folder, trials, 1)
        ledger = Ledger(
            storage_url=f"sqlite:///{folder / 'study.db'}",
            name="nothing",
            sampler=make_sampler(sampler, 0, setup.space),
            epochs=setup.plan.epochs,
            reduction_factor=setup.plan.reduction_factor,
        )
        conductor = make_conductor(setup, ledger)
        drawn, spent = np.random.default_rng(0), list[float]()
        try:
            for index in range(trials):
                began = time.process_time()
                if not run_trial(conductor, str(index), setup.plan.epochs, drawn.random()):
                    break
                spent.append(time.process_time() - began)
        finally:
            ledger.release()
        return spent


def make_conductor(setup: Setup, ledger: Ledger) -> Conductor:
    """Return the real conductor of a study that nobody looks at."""
    return Conductor(
        plan=setup.plan,
        proposals=Proposals(setup.space, seed=0),
        ledger=ledger,
        progress=Progress(total=setup.plan.trials, objective=AUPRC_SV, quiet=True),
    )


def run_trial(conductor: Conductor, key: str, epochs: int, value: float) -> bool:
    """Tell the conductor of one trial; return whether it had one."""
    if conductor.propose(key) is None:
        return False
    conductor.started(key)
    for epoch in range(1, epochs + 1):
        last = epoch == epochs
        result = {
            EPOCH: epoch,
            METRICS: {AUPRC_SV: value} | dict.fromkeys(OTHER_METRICS, value),
            NOTE: "",
            BUSY_SECONDS: 0.0,
            Tag.OUTCOME: str(Outcome.COMPLETE) if last else "",
            Tag.CAUSE: "",
        }
        if conductor.reported(key, result) or last:
            conductor.completed(key, result)
            break
    return True


if __name__ == "__main__":
    main()
