"""Servers on this machine: a PostgreSQL of one test file, an MLflow that can go away."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "not-to-be-seen"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _programs() -> Path | None:
    on_path = shutil.which("pg_ctl")
    if on_path:
        return Path(on_path).resolve().parent
    places = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    return max((place.parent for place in places), default=None, key=lambda p: int(p.parent.name))


@contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server for the time of a block; give its address without a database."""
    folder = _programs()
    if folder is None:
        pytest.skip("no pg_ctl: `apt-get install postgresql` brings what this test runs")
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        root, user = Path(name), None
        (root / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # the server refuses to run as root
            names = {entry.pw_name for entry in pwd.getpwall()}
            user = "postgres" if "postgres" in names else "nobody"
            for path in (root, root / "password"):
                shutil.chown(path, user)
        port = free_port()

        def call(program: str, *words: str) -> None:
            done = subprocess.run(
                [str(folder / program), "-D", str(root / "data"), *words],
                cwd=root,
                user=user,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, done.stderr

        call("initdb", "-U", "study", "-A", "scram-sha-256", f"--pwfile={root / 'password'}")
        options = f"-h 127.0.0.1 -p {port} -k {root} -F"
        call("pg_ctl", "-w", "-l", str(root / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://study:{PASSWORD}@127.0.0.1:{port}"
        finally:
            call("pg_ctl", "-w", "-m", "immediate", "stop")


def ask(address: str, *statements: str) -> list[tuple[Any, ...]]:
    """Return the rows of the last statement; not through Optuna, which keeps connections open."""
    import psycopg

    with psycopg.connect(address.replace("+psycopg", ""), autocommit=True) as connection:
        for statement in statements[:-1]:
            connection.execute(statement)
        cursor = connection.execute(statements[-1])
        return cursor.fetchall() if cursor.description else []


# A server of our own: MLflow's application, without the job runners of `mlflow server`.
SERVER = """
import os, sys
folder, port = sys.argv[1:]
os.environ["_MLFLOW_SERVER_FILE_STORE"] = f"sqlite:///{folder}/mlflow.db"
os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = "mlflow-artifacts:/"
os.environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = f"{folder}/mlruns"
os.environ["_MLFLOW_SERVER_SERVE_ARTIFACTS"] = "true"
from werkzeug.serving import run_simple
from mlflow.server import app
run_simple("127.0.0.1", int(port), app, threaded=True)
"""


class Server:
    """A tracking server on this machine that can go away and come back."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder
        self.address = f"http://ann:s3cret@127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", SERVER, str(self.folder), str(self.port)]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(command, stdout=quiet, stderr=quiet)
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        raise TimeoutError("the MLflow server did not start within 60 s")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
