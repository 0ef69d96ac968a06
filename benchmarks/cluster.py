"""Whether a study's driver keeps up with a cluster: trials that train nothing on many nodes.

  python -m benchmarks.cluster [--nodes 8] [--trials 200]

The nodes are Ray's own processes on this machine (`ray.cluster_utils`), with one core each, and so
is everything that `benchmarks.orchestration` names: `fusion_tuning`, asha, six reports a trial,
ledger, results on disk. Nodes and workers share this machine's cores with the driver, so that the
cost of a trial is an upper bound; the driver's own processor time is not. That, and its share of
the wall time, are counted from the first end of a trial to the last: without start and closing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Self

import numpy as np
import optuna
import ray
from ray.cluster_utils import Cluster

from benchmarks.driven import environment
from benchmarks.orchestration import Cost, cost_of, ends_of, idle_setup
from study.store.study import Places
from study.tracking.experiment import Experiment
from study.tuning.resources import Demand
from study.tuning.session import Options, run_study

STORE_BYTES = 128 * 2**20


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--study", choices=("yes", "no"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.study:
        cost = run_on_cluster(args.nodes, args.trials, tracked=args.study == "yes")
        print(json.dumps(asdict(cost)))
        return
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f} before; ray {ray.__version__}, optuna {optuna.__version__}; "
        f"{args.trials} trials on {args.nodes} nodes, once\n"
    )
    print("| tracked | s a trial | of the last tenth | driver's processor | its share | closing |")
    print("|---|---:|---:|---:|---:|---:|")
    for tracked in ("no", "yes"):
        words = ["--nodes", str(args.nodes), "--trials", str(args.trials), "--study", tracked]
        command = [sys.executable, "-m", "benchmarks.cluster", *words]
        env = {**environment(), "RAY_AUTH_MODE": "disabled"}
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        if done.returncode:
            raise RuntimeError(done.stderr)
        cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
        print(
            f"| {tracked} | {cost.trial:.3f} | {cost.last_tenth:.3f} | {cost.driver:.3f} | "
            f"{cost.driver / cost.trial:.0%} | {cost.closing:.1f} |",
            flush=True,
        )


class Clock(threading.Thread):
    """Notes this process's processor time ten times a second while it is entered."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._noted: list[tuple[float, float]] = []
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Note until it is over."""
        while not self._over.wait(0.1):
            self._noted.append((time.time(), time.process_time()))

    def between(self, first: float, last: float) -> float:
        """Return the processor seconds between two moments, in seconds since the epoch."""
        wall, cpu = np.array(self._noted).T
        before, after = np.interp([first, last], wall, cpu)
        return float(after - before)


def run_on_cluster(nodes: int, trials: int, *, tracked: bool) -> Cost:
    """Run a study on nodes of one core each; return its cost."""
    # Short, because Ray's sockets go there.
    with tempfile.TemporaryDirectory(prefix="b-") as name:
        # Ray writes where its newest cluster is: not where `auto` of others would find it.
        os.environ["TMPDIR"] = name
        workspace = Path(name)
        folder = workspace / "studies" / "nothing"
        setup = idle_setup(workspace, trials, nodes)
        experiment = None
        if tracked:
            experiment = Experiment(tracking_uri=None, name="nothing", workspace=workspace)
            experiment.connect()
        head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": f"{name}/ray"}
        cluster = Cluster(
            initialize_head=True,
            head_node_args={**head, "object_store_memory": STORE_BYTES},
        )
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            cluster.wait_for_nodes()
            url = f"sqlite:///{folder / 'study.db'}"
            options = Options(
                resume=False,
                places=Places(folder=folder),
                demand=Demand(device="cpu", shared_storage=True),
                address=cluster.address,
                quiet=True,
                began=time.monotonic(),
            )
            with Clock() as clock:
                run_study(setup, options, experiment)
                ended = time.time()
            ends = ends_of(url)
            return cost_of(ends, ended, clock.between(ends[0], ends[-1]))
        finally:
            cluster.shutdown()


if __name__ == "__main__":
    main()
