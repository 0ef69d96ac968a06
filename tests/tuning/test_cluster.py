"""A study on a cluster of two nodes with declared GPUs; the second joins late, and is lost.

The nodes are Ray's own processes on this machine (`ray.cluster_utils`), the study is the command
line, and its trials train. One study serves all tests: starting workers is what takes time.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from benchmarks.driven import environment
from study.data.source import Source
from tests.builders import write_split
from tests.tuning.watched import WAITS_IN, Ran, read

TRIALS, EPOCHS, SHARE = 4, 4, 0.5
SPACE = f"""
description = "small trials"
[search]
sampler = "random"
trials = {TRIALS}
scheduler = "none"
folds = 2
[fixed]
fusion = "film"
embed_dim = 8
batch_size = 32
epochs = {EPOCHS}
normal_beats_per_epoch = 40
[params.learning_rate]
low = 1e-4
high = 1e-2
log = true
"""

FIRST = {"num_cpus": 1, "num_gpus": 2}
LATE = {"num_cpus": 3, "num_gpus": 1}
SLOTS = {"first": 1, "late": 2}
"""Trials of half a GPU and one core that a node can hold: by its cores, and by its GPUs."""


@dataclass
class Seen:
    """What was seen of the study."""

    code: int
    said: str  # errors included
    epochs: list[Ran]  # of all workers
    nodes: dict[str, str]  # Ray's id by name
    lost_at: float  # when the late node was taken away, seconds since the epoch of Unix
    on_lost: list[Ran]  # epochs known on that node by then


@pytest.fixture(scope="module")
def seen(small_source: Source, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "records").symlink_to(small_source.folder)
    write_split(folder, small_source.development)
    (folder / "small.toml").write_text(SPACE)
    (folder / "log").mkdir()
    # Short, because Ray's sockets go there.
    with (
        tempfile.TemporaryDirectory(prefix="c-") as scratch,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in environment().items():
            patch.setenv(name, value)
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("TMPDIR", scratch)
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Cluster(
            initialize_head=True,
            head_node_args={**FIRST, "include_dashboard": False, "temp_dir": f"{scratch}/ray"},
        )
        try:
            yield run(cluster, folder)
        finally:
            cluster.shutdown()


def run(cluster: Cluster, folder: Path) -> Seen:
    """Run the study; bring a node when the first trials run, and take it when it is in use."""
    nodes = {"first": cluster.head_node.node_id}
    words = "--space small.toml --records records --split split.toml".split()
    words += ["--address", cluster.address, "--storage", str(folder / "shared"), "--no-track"]
    words += ["--gpus-per-trial", str(SHARE)]
    command = [sys.executable, "-m", "tests.tuning.watched", str(folder / "log"), *words]
    said = folder / "said.txt"
    with said.open("w") as out:
        driver = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:

        def wait(ready: Callable[[list[Ran]], bool]) -> list[Ran]:
            for _ in range(1200):
                if ready(read(folder / "log")):
                    return read(folder / "log")
                assert driver.poll() is None, f"it ended first:\n{said.read_text()}"
                time.sleep(0.1)
            raise AssertionError(f"not within two minutes:\n{said.read_text()}")

        def waits(epochs: list[Ran], name: str) -> bool:
            on = [ran for ran in epochs if ran.node == nodes[name] and ran.epoch == WAITS_IN]
            return len(on) == SLOTS[name]

        wait(lambda epochs: waits(epochs, "first"))
        late = cluster.add_node(**LATE)
        nodes["late"] = late.node_id
        known = wait(lambda epochs: waits(epochs, "late"))
        lost_at = time.time()
        cluster.remove_node(late, allow_graceful=False)
        lost = {ran.worker for ran in known if ran.node == nodes["late"]}
        # They end once they see that their node has: none may train on meanwhile.
        wait(lambda _: not any(Path(f"/proc/{worker}").exists() for worker in lost))
        (folder / "log" / "go").touch()
        code = driver.wait(timeout=150)
    finally:
        driver.kill()
        driver.wait()
    return Seen(
        code=code,
        said=said.read_text(),
        epochs=read(folder / "log"),
        nodes=nodes,
        lost_at=lost_at,
        on_lost=[ran for ran in known if ran.node == nodes["late"]],
    )


def most(epochs: list[Ran]) -> float:
    """Return the largest sum of shares at any one moment."""
    changes = [(ran.began, ran.share) for ran in epochs]
    changes += [(ran.ended, -ran.share) for ran in epochs]
    return max(itertools.accumulate(share for _, share in sorted(changes)), default=0.0)


def test_the_study_survives_a_node_that_joins_and_is_lost(seen: Seen) -> None:
    assert seen.code == 0, seen.said
    assert f"{TRIALS}       0       0" in seen.said, "complete, pruned, failed"
    assert len({ran.digest for ran in seen.epochs}) == TRIALS


def test_no_gpu_is_ever_shared_beyond_what_it_is(seen: Seen) -> None:
    assert {ran.share for ran in seen.epochs} == {SHARE}
    by_gpu = defaultdict(list)
    for ran in seen.epochs:
        (gpu,) = ran.gpus  # a share below 1 lies on one GPU
        by_gpu[ran.node, gpu].append(ran)
    assert {key: most(epochs) for key, epochs in by_gpu.items() if most(epochs) > 1.0} == {}


def test_every_node_holds_as_many_trials_as_fit(seen: Seen) -> None:
    """Also one that was added while the study ran."""
    for name, slots in SLOTS.items():
        here = [ran for ran in seen.epochs if ran.node == seen.nodes[name]]
        assert most(here) / SHARE == slots, name
    meanwhile = [ran for ran in seen.epochs if ran.began < seen.lost_at]
    assert most(meanwhile) / SHARE == sum(SLOTS.values())


def test_trials_of_a_lost_node_go_on_elsewhere_from_their_checkpoints(seen: Seen) -> None:
    lost = {ran.digest for ran in seen.on_lost}
    assert len(lost) == SLOTS["late"]
    assert seen.said.count("retried  its worker was lost") == len(lost)
    for digest in lost:
        after = [r for r in seen.epochs if r.digest == digest and r.began > seen.lost_at]
        assert [ran.epoch for ran in after] == [WAITS_IN, EPOCHS], "no saved epoch ran again"
        assert {ran.node for ran in after}.isdisjoint({seen.nodes["late"]})
