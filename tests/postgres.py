"""A PostgreSQL server of one test file alone, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PASSWORD = "not-to-be-seen"


def _programs() -> Path | None:
    """Return the folder of PostgreSQL's programs: that of PATH, or Debian's newest."""
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
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]

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
