"""The command `ecg-fusion`, which has all commands of this tool as subcommands.

`ecg-fusion run --space fusion_grid` does what `python -m study.run --space fusion_grid` does. It
also works in a folder that has its own `study/`, which `python -m` would import instead.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from study import __version__
from study.command import DONE, PROGRAM, REFUSED, leave
from study.errors import unknown

COMMANDS = {
    "run": ("study.run", "search or compare: start, resume, confirm, inspect, repair studies"),
    "report": ("study.report", "write the page of a study and its tables"),
    "evaluate": ("study.evaluate", "the sealed test: its plan, its openings; other records"),
    "predict": ("study.predict", "classify the beats of a WFDB record"),
    "demo": ("study.demo", "classify a made-up record with the shipped model"),
    "champion": ("study.champion", "make such a model from an arm of a comparison"),
    "check-plugin": ("study.check_plugin.__main__", "check fusions and backbones of your own"),
    "data": ("study.data.__main__", "show records and beats, and what is left out"),
}
"""Module of each command, imported only when the command is called; and what the command does."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first word names; return its exit code."""
    name, *words = (sys.argv[1:] if argv is None else list(argv)) or [""]
    if name in ("-h", "--help", ""):
        print(_help())
        return DONE if name else REFUSED
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return DONE
    if name not in COMMANDS:
        print(f"error: {unknown('command', name, COMMANDS)}", file=sys.stderr)
        return REFUSED
    code: int = import_module(COMMANDS[name][0]).main(words)
    return code


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = (f"  {name:<{width}}  {does}" for name, (_, does) in COMMANDS.items())
    return "\n".join(
        (
            f"usage: {PROGRAM} COMMAND ...",
            "",
            "How should RR-interval rhythm be fused with beat morphology?",
            "",
            *lines,
            "",
            f"{PROGRAM} COMMAND --help lists its options; {PROGRAM} run --list the spaces.",
        )
    )


def script() -> NoReturn:
    """Run the command line and end the process."""
    leave(main())


if __name__ == "__main__":
    script()
