"""The Slurm script, run for real against stand-ins of Slurm: two Ray nodes on this machine."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.studies import processes

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "slurm.sh"
WORDS = ("--space", "smoke", "--storage", "trials")

SRUN = """#!/usr/bin/env bash
echo "$*" >> srun.log
while [[ "$1" == --* ]]; do shift; done
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
[ "$1" = show ] || exec echo "$*" >> scontrol.log
echo node-a
sleep 0.2  # as for a long list: whoever leaves after the first line must not be missed
echo node-b
"""
STUDY = """#!{python}
# In the place of `python -m study.run`: joins the cluster it is sent to, says what it saw.
import json, os, pathlib, signal, sys, time
import ray

words = sys.argv[1:]
ray.init(address=words[-1 - ("--resume" in words)].split("=")[1], log_to_driver=False)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # Ray has put a handler of its own
wanted = int(os.environ["SLURM_JOB_NUM_NODES"])
while sum(node["Alive"] for node in ray.nodes()) < wanted:
    time.sleep(0.1)
said = dict(words=words, resources=ray.cluster_resources(), token=os.environ["RAY_AUTH_TOKEN"])
pathlib.Path("study.part").write_text(json.dumps(said | dict(mode=os.environ["RAY_AUTH_MODE"])))
pathlib.Path("study.part").rename("study.json")
if "--resume" not in words:
    time.sleep(120)
"""


@dataclass
class Job:
    id: int
    address: str  # where the head was to be
    code: int
    out: str
    study: dict[str, Any]  # what the stand-in of the study saw
    requeued: str  # what `scontrol` was asked for besides names of nodes
    steps: list[str]  # arguments of each `srun`


def command_lines() -> list[str]:
    return [words for _, _, words in processes()]


def free_port() -> int:
    while True:
        with socket.socket() as probe, suppress(OSError):
            port = random.SystemRandom().randrange(20000, 40000)
            probe.bind(("127.0.0.1", port))
            return port


def run_job(folder: Path, *, n_nodes: int, send: signal.Signals | None = None) -> Job:
    """Run the script in a folder with stand-ins; send it a signal once the study runs.

    At no time does a command line show the token, and nothing of Ray is left at the end.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True)
    texts = {"srun": SRUN, "scontrol": SCONTROL, "study": STUDY.format(python=sys.executable)}
    for name, text in texts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    port = free_port()
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    env |= {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": str(programs / "study"),
        "RAY": str(Path(sys.executable).parent / "ray"),
        "HEAD_IP": "127.0.0.1",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_ID": str(port - 20000),
        "SLURM_JOB_NODELIST": "node-[a-b]",
        "SLURM_JOB_NUM_NODES": str(n_nodes),
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_GPUS_ON_NODE": "2",
    }
    job = subprocess.Popen(
        ["bash", str(SCRIPT), *WORDS],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said = folder / "study.json"
        for _ in range(1200):
            if said.exists() or job.poll() is not None:
                break
            time.sleep(0.1)
        study = json.loads(said.read_text()) if said.exists() else {}
        assert not any(study["token"] in words for words in command_lines() if study)
        if send is not None and study:
            job.send_signal(send)
        out, _ = job.communicate(timeout=60)
    finally:
        job.terminate()
        job.wait(30)
    address = f"127.0.0.1:{port}"
    log, srun = folder / "scontrol.log", folder / "srun.log"
    assert study and srun.exists(), out
    marks = (address, f"/tmp/ray-{port - 20000}/")
    assert [words for words in command_lines() if any(mark in words for mark in marks)] == []
    assert not Path(marks[1]).exists()
    return Job(
        id=port - 20000,
        address=address,
        code=job.returncode,
        out=out,
        study=study,
        requeued=log.read_text() if log.exists() else "",
        steps=srun.read_text().splitlines(),
    )


def test_a_job_stops_at_the_signal_before_its_limit_and_is_resumed(tmp_path: Path) -> None:
    warned = run_job(tmp_path / "first", n_nodes=2, send=signal.SIGUSR1)
    assert warned.study["resources"]["GPU"] == 4
    assert warned.study["resources"]["CPU"] == 2
    head, worker = warned.steps
    assert "--nodelist=node-a" in head and "--head" in head
    assert "--exclude=node-a" in worker and f"--address={warned.address}" in worker
    assert warned.study["words"] == ["-m", "study.run", *WORDS, f"--address={warned.address}"]
    assert warned.requeued == f"requeue {warned.id}\n", warned.out
    assert warned.code == 130
    assert "stopped before it was done (exit code 130): requeued\n" in warned.out

    # The same command on one node where the study has been begun ends by itself.
    (tmp_path / "again" / "studies" / "smoke").mkdir(parents=True)
    (tmp_path / "again" / "studies" / "smoke" / "plan.json").write_text("{}")
    again = run_job(tmp_path / "again", n_nodes=1)
    assert (again.code, again.requeued, len(again.steps)) == (0, "", 1), again.out
    assert again.study["words"][-2:] == [f"--address={again.address}", "--resume"]

    assert warned.study["mode"] == "token"
    assert len(warned.study["token"]) == 64
    assert warned.study["token"] != again.study["token"]
