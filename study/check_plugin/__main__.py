"""Checks a plug-in: `python -m study.check_plugin FILE.py`.

Each fusion and each backbone of the file is built with every input that it goes with, and must
pass the checks that those of the package pass (docs/plugins.md lists them). Nothing is trained.

Exit codes: 0 all checks passed; 1 a check failed; 2 the file cannot be used.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from study.command import DONE, carry_out, leave
from study.options import command, set_logging

BROKEN = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging()
    return carry_out(lambda: _check(args), kept=lambda: "nothing was written")


def _parser() -> argparse.ArgumentParser:
    parser = command("check_plugin", __doc__)
    parser.add_argument("plugin", type=Path, metavar="FILE.py", help="the plug-in")
    return parser


def _check(args: argparse.Namespace) -> int:
    from study.models.plugins.contract import CHECKS, cases_of_backbone, cases_of_fusion, faults
    from study.models.plugins.plugin import Plugin, classes_of

    plugin = Plugin.at(args.plugin)
    plugin.load()
    broken = 0
    cases_of = {"FUSIONS": cases_of_fusion, "BACKBONES": cases_of_backbone}
    for table, name in classes_of(plugin):
        cases = cases_of[table](name)
        print(f"{name}: {', '.join(case.text for case in cases)}")
        for check in CHECKS:
            found = list(dict.fromkeys(text for case in cases for text in faults(check, case)))
            broken += bool(found)
            print(f"  {'fault' if found else 'ok':<6}{check}")
            for text in found:
                print(f"          {text}")
    print(f"{plugin.file}: {broken or 'no'} check{'' if broken == 1 else 's'} failed")
    return BROKEN if broken else DONE


if __name__ == "__main__":
    leave(main())
