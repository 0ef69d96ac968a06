"""Commands that read a study write nothing: no file, no table, whatever address they are given.

No command here starts a trial; the last test starts processes, because it lists their modules.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from sqlalchemy import create_engine, text

from study import evaluate, report, run
from study.store.folder import BEATS
from study.store.optuna_storage import close_storage, open_storage
from tests.builders import bare_beats, stored_beats
from tests.command import Main, here
from tests.servers import PASSWORD, ask, postgres_server
from tests.tuning.small_study import NAME, SPACE, contents, status

COMMANDS: dict[str, tuple[Main, list[str]]] = {
    "status": (run.main, ["--status", NAME, "--no-track"]),
    "repair": (run.main, ["--repair", NAME, "--no-track"]),
    "repair, shown only": (run.main, ["--repair", NAME, "--no-track", "--dry-run"]),
    "report": (report.main, ["--study", NAME, "--no-track"]),
    "confirm": (run.main, ["--confirm", NAME, "--no-track"]),
    "plan of a sealed test": (evaluate.main, ["--write-plan", NAME]),
    "dry run of a study that exists": (run.main, ["--space", f"{NAME}.toml", "--dry-run"]),
}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


def refuses(command: str, address: str, found: str) -> None:
    main, words = COMMANDS[command]
    told = here(Path.cwd(), [*words, "--study-storage", address], main)
    assert (told.code, told.out, PASSWORD in told.err) == (2, "", False)
    again = f"; give the address that study '{NAME}' was started with\n"
    assert re.fullmatch(f"error: --study-storage: .*{re.escape(found)}.*{again}", told.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_sqlite_storage_makes_nothing(workspace: Path, command: str) -> None:
    (workspace / f"{NAME}.toml").write_text(SPACE)
    urls = {name: f"sqlite:///{workspace}/{name}.db" for name in ("absent", "bare", "other")}
    with create_engine(urls["bare"]).begin() as connection:
        connection.execute(text("CREATE TABLE runs (id INTEGER)"))
    optuna.create_study(study_name="grid", storage=urls["other"])
    before = contents(workspace)
    for name, said in (
        ("absent", f"{workspace}/absent.db does not exist"),
        ("bare", f"{urls['bare']} is no Optuna storage: it has no table of studies"),
        ("other", f"{urls['other']} holds no study '{NAME}' (it has grid)"),
    ):
        refuses(command, urls[name], said)
    assert contents(workspace) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistyped_postgres_makes_no_table(server: str, workspace: Path, command: str) -> None:
    (workspace / f"{NAME}.toml").write_text(SPACE)
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    ask(f"{server}/postgres", "DROP DATABASE IF EXISTS empty", "CREATE DATABASE empty")
    before = contents(workspace)
    refuses(command, f"{server}/empty", "/empty is no Optuna storage: it has no table")
    refuses(command, f"{server}/absent", "/absent cannot be read (connection failed")
    assert ask(f"{server}/empty", tables) == []
    assert contents(workspace) == before


def test_reading_changes_no_postgres_storage(server: str, workspace: Path, folder: Path) -> None:
    ask(f"{server}/postgres", "DROP DATABASE IF EXISTS full_one", "CREATE DATABASE full_one")
    address = f"{server}/full_one"
    storages = [open_storage(url) for url in (f"sqlite:///{folder / 'study.db'}", address)]
    optuna.copy_study(from_study_name=NAME, from_storage=storages[0], to_storage=storages[1])
    for storage in storages:
        close_storage(storage)
    (folder / "study.db").unlink()
    written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    before = ask(address, written)
    _, said = status("--no-track", "--study-storage", address)
    assert "trials: 2 complete, 1 pruned, 1 failed, 0 running, 1 owed, 0 not prop" in said[2]
    assert ask(address, written) == before
    assert not (folder / "study.db").exists()


@pytest.mark.parametrize("command", ["status", "report", "plan of a sealed test"])
def test_reading_leaves_the_study_as_it_was(workspace: Path, folder: Path, command: str) -> None:
    beats = bare_beats([[1, 1, 0, 0], [0, 0, 1, 0]], ("101", "106"))
    (folder / BEATS).write_bytes(stored_beats(beats))
    main, words = COMMANDS[command]
    output = {"report": ["--output", "out"], "plan of a sealed test": ["--output", "plan.toml"]}
    before = contents(folder)
    ended = here(Path.cwd(), [*words, *output.get(command, [])], main)
    assert ended.code == 0, ended
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("words", "code", "needed"),
    [
        (["--status", NAME, "--no-track"], "0", {"optuna"}),
        (["--list"], "0", {"optuna"}),
        (["--space", "fusion_gird"], "2", set()),
    ],
    ids=["status", "list", "misspelt"],
)
def test_no_engine_to_read(workspace: Path, words: list[str], code: str, needed: set[str]) -> None:
    """A process of its own, whose modules are its own."""
    program = f"import sys; from study.run import main; print(main({words}), *sys.modules)"
    done = subprocess.check_output([sys.executable, "-c", program], text=True, timeout=60)
    ended, *loaded = done.splitlines()[-1].split()
    assert ended == code
    heavy = {"torch", "ray", "mlflow", "optuna", "scipy.stats", "matplotlib"}
    assert heavy & set(loaded) == needed
