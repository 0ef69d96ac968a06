"""What command lines share: help, a line for each error, exit codes, signals at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from study.__main__ import COMMANDS
from study.command import carry_out
from study.errors import StudyStateError

ROOT = Path(__file__).parents[1]


KEPT, FULL = "what is done is kept", "No space left on device"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StudyStateError("it exists"), 2, "error: it exists\n"),
        (OSError(28, FULL, "/data/x"), 2, f"error: /data/x: {FULL}; mend this; {KEPT}\n"),
        (OSError("odd"), 2, f"error: a file: odd; mend this; {KEPT}\n"),
        (KeyboardInterrupt(), 130, f"interrupted; {KEPT}\n"),
    ],
)
def test_an_end_is_said_in_a_line(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        raise error

    assert carry_out(work, kept=lambda: KEPT) == code
    assert capsys.readouterr().err == said
    assert carry_out(work, kept=lambda: KEPT, verbose=True) == code
    told = capsys.readouterr().err
    assert told.endswith(said) and told.startswith("Traceback") == (code == 2)


class Freed:
    """Something that a signal comes to while it is freed: Python drops what is raised then."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


def free() -> None:
    Freed()
    time.sleep(5)


@pytest.mark.parametrize(
    ("number", "happens"),
    [
        (signal.SIGTERM, lambda: signal.raise_signal(signal.SIGTERM)),
        (signal.SIGHUP, lambda: signal.raise_signal(signal.SIGHUP)),
        (signal.SIGTERM, free),
    ],
    ids=["SIGTERM", "SIGHUP", "while an object is freed"],
)
def test_a_signal_ends_a_command_in_order_and_is_named(
    number: signal.Signals, happens: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        happens()
        return 0

    before = signal.signal(number, signal.SIG_DFL)
    try:
        assert carry_out(work, kept=lambda: KEPT) == 130
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().err == f"interrupted by {number.name}; {KEPT}\n"


PRINTER = """
import sys
from study.command import carry_out

def work():
    for _ in range(int(sys.argv[1])):
        print("AUPRC .519 ± .030 of n² beats, Zoë")
    return 0

sys.exit(carry_out(work, kept=lambda: "", readable=lambda: "it is in trials.csv"))
"""


def test_a_reader_that_leaves_is_no_error() -> None:
    read, write = os.pipe()
    words = [sys.executable, "-c", PRINTER, "100000"]
    process = subprocess.Popen(words, stdout=write, stderr=subprocess.PIPE, cwd=ROOT)
    os.close(write)
    os.close(read)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (141, b"")


@pytest.mark.parametrize(
    ("output", "code", "out", "err"),
    [
        ("", 0, "AUPRC .519 +- .030 of n^2 beats, Zo?\n", ""),
        (">&-", 0, "", ""),
        ("2>&-", 0, "AUPRC .519 +- .030 of n^2 beats, Zo?\n", ""),
        (">/dev/full", 2, "", f"error: standard output: {FULL}; it is in trials.csv\n"),
    ],
    ids=["ASCII", "closed", "errors closed", "full"],
)
def test_unwritable_output_changes_no_result(output: str, code: int, out: str, err: str) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHON": sys.executable}
    done = subprocess.run(
        ["sh", "-c", f'"$PYTHON" -c "$0" 1 {output}', PRINTER],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (code, out, err)


HEAVY = ("torch", "ray", "mlflow", "optuna", "numpy", "scipy", "wfdb", "matplotlib", "pandas")

HELP = """
import json, sys
import {command} as command
parser = command._parser()
text = parser.format_help()
silent = [action.dest for action in parser._actions if not action.help]
print(json.dumps([text, silent, list(sys.modules)]))
"""


PROGRAMS = [module for module, _ in COMMANDS.values()]


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_explains_every_option_and_imports_nothing_heavy(program: str) -> None:
    """In a process of its own: this one has imported all of it."""
    words = [sys.executable, "-c", HELP.format(command=program)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    text, silent, modules = json.loads(done.stdout)
    assert " ".join(text.lower().split()).count("exit codes: 0") == 1
    assert silent == []
    assert [name for name in HEAVY if name in modules] == []
