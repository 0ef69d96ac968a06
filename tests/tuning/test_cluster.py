"""A study on a cluster of two nodes with declared GPUs; the second joins late, and is lost.

The nodes are Ray's own processes on this machine (`ray.cluster_utils`), the study is the command
line, and its trials train, with a fusion from a plug-in. One study serves all tests: starting
workers is what takes time.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.builders import low_rank
from tests.command import Ended
from tests.studies import SPACES, Start, Studies
from tests.tuning.watched import WAITS_IN, Ran, read

TRIALS, EPOCHS, SHARE = 4, 4, 0.5

FIRST = {"num_cpus": 1, "num_gpus": 2}
LATE = {"num_cpus": 3, "num_gpus": 1}
SLOTS = {"first": 1, "late": 2}
"""Trials of half a GPU and one core that a node can hold: by its cores, and by its GPUs."""


@dataclass
class Seen:
    """What was seen of the study."""

    ended: Ended
    epochs: list[Ran]  # of all workers
    nodes: dict[str, str]  # Ray's id by name
    lost_at: float  # when the late node was taken away, seconds since the epoch of Unix
    on_lost: list[Ran]  # epochs known on that node by then


@pytest.fixture(scope="module")
def seen(studies: Studies) -> Iterator[Seen]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        own = {"include_dashboard": False, "temp_dir": f"{studies.scratch}/ray"}
        cluster = Cluster(initialize_head=True, head_node_args={**FIRST, **own})
        try:
            yield run(cluster, studies.folder)
        finally:
            cluster.shutdown()


def run(cluster: Cluster, folder: Path) -> Seen:
    """Run the study; bring a node when the first trials run, and take it when it is in use."""
    nodes, log = {"first": cluster.head_node.node_id}, folder / "log"
    log.mkdir()
    (folder / "low_rank.py").write_text(low_rank())
    (folder / "random.toml").write_text(SPACES["random"].replace('"film"', '"low_rank"'))
    words = "--space random.toml --plugin low_rank.py --no-track".split()
    words += "--records records --split split.toml".split()
    words += ["--address", cluster.address, "--storage", str(folder / "shared")]
    words += f"--gpus-per-trial {SHARE} --trials {TRIALS} --epochs {EPOCHS}".split()
    program = (sys.executable, "-m", "tests.tuning.watched", str(log))
    start = Start(words, folder, folder / "said", program)

    def on(name: str) -> list[Ran]:
        return [ran for ran in read(log) if ran.node == nodes[name]]

    def wait_for_trials(name: str) -> None:
        start.wait_for(
            lambda: sum(ran.epoch == WAITS_IN for ran in on(name)) == SLOTS[name],
            f"trials wait on the {name} node",
        )

    try:
        wait_for_trials("first")
        late = cluster.add_node(**LATE)
        nodes["late"] = late.node_id
        wait_for_trials("late")
        on_lost, lost_at = on("late"), time.time()
        cluster.remove_node(late, allow_graceful=False)
        # They end once they see that their node has: none may train on meanwhile.
        workers = [Path(f"/proc/{ran.worker}") for ran in on_lost]
        start.wait_for(lambda: not any(path.exists() for path in workers), "its workers end")
        (log / "go").touch()
        ended = start.ended(within_s=150)
    finally:
        start.process.kill()
        start.process.wait()
    return Seen(ended, read(log), nodes, lost_at, on_lost)


def most(epochs: list[Ran]) -> float:
    """Return the largest sum of shares at any one moment."""
    changes = [(ran.began, ran.share) for ran in epochs]
    changes += [(ran.ended, -ran.share) for ran in epochs]
    return max(itertools.accumulate(share for _, share in sorted(changes)), default=0.0)


def test_the_study_survives_a_node_that_joins_and_is_lost(seen: Seen) -> None:
    assert seen.ended.code == 0, seen.ended
    assert seen.ended.err.count(" complete AUPRC") == TRIALS
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
    assert seen.ended.err.count("retried  its worker was lost") == len(lost)
    for digest in lost:
        after = [r for r in seen.epochs if r.digest == digest and r.began > seen.lost_at]
        assert [ran.epoch for ran in after] == [WAITS_IN, EPOCHS], "no saved epoch ran again"
        assert {ran.node for ran in after}.isdisjoint({seen.nodes["late"]})
