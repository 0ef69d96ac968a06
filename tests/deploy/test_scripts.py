"""Shell scripts of deploy/: clean by ShellCheck; `study.sh` resumes what has been begun."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_shellcheck_finds_nothing() -> None:
    beside = Path(sys.executable).parent
    program = shutil.which("shellcheck", path=f"{beside}{os.pathsep}{os.environ['PATH']}")
    assert program, "shellcheck is missing: pip install -e '.[test]' brings it"
    scripts = sorted(str(path) for path in DEPLOY.glob("*.sh"))
    assert len(scripts) == 2
    done = subprocess.run([program, *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def run(folder: Path, *words: str, begun: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `study.sh` with a program that prints its arguments in the place of Python."""
    if begun:
        (folder / "studies" / begun).mkdir(parents=True)
        (folder / "studies" / begun / "plan.json").write_text("{}")
    return subprocess.run(
        ["bash", str(DEPLOY / "study.sh"), *words],
        cwd=folder,
        env={**os.environ, "PYTHON": "/bin/echo"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("words", "begun", "resumed"),
    [
        (["--space", "smoke"], None, False),
        (["--space", "smoke"], "smoke", True),
        (["--space=smoke", "--quick"], "smoke-quick", True),
        (["--space", "own/fine.toml"], "fine", True),
        (["--space", "smoke", "--name", "other"], "smoke", False),
        (["--name=other", "--space", "smoke"], "other", True),
        (["--space", "smoke", "--resume"], "smoke", False),
    ],
    ids=["first", "again", "rehearsal", "file", "another name", "its name", "already said"],
)
def test_what_has_been_begun_is_resumed(
    tmp_path: Path, words: list[str], begun: str | None, resumed: bool
) -> None:
    done = run(tmp_path, *words, begun=begun)
    expected = " ".join(["-m", "study.run", *words, *(["--resume"] if resumed else [])])
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr


def test_a_study_without_a_name_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "--address", "auto")
    assert done.returncode != 0
    assert "--space NAME or --name NAME is needed" in done.stderr
