"""A node that the network no longer reaches: its trial moves, and continues from its checkpoint.

Two network namespaces, joined by a cable, are the hosts; each has a Ray node of one core.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from study.keys import Outcome
from tests.studies import COMMAND, Studies

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]

EPOCHS = 40

HEAD, NODE, PORT = "10.77.0.1", "10.77.0.2", 6379

ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    # How soon a node that does not answer counts as lost; by default within half a minute.
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "4",
}


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Hosts(NamedTuple):
    """The names of two namespaces, and of the end of the cable in each."""

    head: str
    node: str


def on(host: str) -> list[str]:
    """Return what runs a command on a host."""
    return ["ip", "netns", "exec", host]


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    made = Hosts(f"fh{os.getpid()}", f"fn{os.getpid()}")
    with ExitStack() as stack:
        try:
            for name in made:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
                ip("-n", name, "link", "set", "lo", "up")
            ip("link", "add", made.head, "type", "veth", "peer", "name", made.node)
            for name, address in ((made.head, HEAD), (made.node, NODE)):
                ip("link", "set", name, "netns", name)
                ip("-n", name, "address", "add", f"{address}/24", "dev", name)
                ip("-n", name, "link", "set", name, "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this machine lets nobody make network namespaces: {error}")
        yield made


@contextmanager
def ray_nodes(hosts: Hosts, scratch: Path) -> Iterator[None]:
    """Run a head on one host and a node on the other."""
    ray = [str(Path(sys.executable).parent / "ray"), "start", "--block", "--num-cpus=1"]
    head = ["--head", f"--port={PORT}", f"--node-ip-address={HEAD}", "--include-dashboard=false"]
    head += [f"--temp-dir={scratch}/ray"]
    node = [f"--address={HEAD}:{PORT}", f"--node-ip-address={NODE}"]
    quiet = subprocess.DEVNULL
    started = []
    try:
        for host, words in ((hosts.head, head), (hosts.node, node)):
            started.append(subprocess.Popen([*on(host), *ray, *words], stdout=quiet, stderr=quiet))
            seen = [*on(hosts.head), ray[0], "status", f"--address={HEAD}:{PORT}"]
            for _ in range(30):
                status = subprocess.run(seen, capture_output=True, text=True, check=False)
                if f"/{float(len(started))} CPU" in status.stdout:
                    break
            else:
                raise AssertionError(f"no Ray node on {host}:\n{status.stdout}{status.stderr}")
        yield
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(60)


def test_a_trial_of_a_host_that_is_cut_off_goes_on_elsewhere(
    studies: Studies, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    on_head = replace(studies, program=(*on(hosts.head), *COMMAND))
    with ray_nodes(hosts, studies.scratch):
        start = on_head.start(
            "long",
            "cut-off",
            *("--address", f"{HEAD}:{PORT}", "--storage", "shared", "--concurrency", "2"),
            *("--epochs", str(EPOCHS)),
        )
        shared = studies.folder / "shared" / "cut-off"
        start.wait_for(
            lambda: len(list(shared.glob("*/checkpoint.pt"))) == 2, "two trials have a checkpoint"
        )
        ip("-n", hosts.head, "link", "set", hosts.head, "down")
        ended = start.ended(within_s=300)
    assert ended.code == 0, ended
    assert ended.err.count("retried  its worker was lost: ") == 1
    assert "continued after epoch " in ended.err
    assert list(studies.outcomes("cut-off").values()) == [Outcome.COMPLETE] * 2
    for curves in studies.curves("cut-off").values():
        assert [step for step, _ in curves["val_auprc_sv"]] == list(range(1, EPOCHS + 1))
