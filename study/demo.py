"""Classifies a made-up record with the shipped champion: `python -m study.demo`.

  python -m study.demo                  writes demo/ in the current folder
  python -m study.demo --out DIR        somewhere else

It needs no network and no records, trains nothing, and takes less than a minute. A program makes
the record: sinus beats with premature S, V and F beats among them. The classes that the model
gives them say nothing about patients. In DIR:
  demo.html    a page with the beats by class, the strip and the model: open it in a browser
  demo.png     the strip
  demo.csv     a row a beat; demo.ecgrr the same as WFDB annotations
  record/      the record: demo.hea, demo.dat, and demo.atr with the classes it was made with

Exit codes: 0 done; 2 a file cannot be written; 130 stopped by a signal.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from study.command import DONE, as_called, carry_out, leave, one_thread
from study.errors import UsageError
from study.files import output_fault
from study.options import command, set_logging

NAME, DURATION_S = "demo", 180.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging()
    one_thread()
    return carry_out(lambda: _demo(args), kept=lambda: "the same command starts again")


def _parser() -> argparse.ArgumentParser:
    parser = command("demo", __doc__)
    parser.add_argument(
        "--out", type=Path, default=Path(NAME), metavar="DIR", help=f"default {NAME}/"
    )
    return parser


def _demo(args: argparse.Namespace) -> int:
    from study import predict
    from study.data.synthetic import write_records

    if fault := output_fault(args.out, folder=True):
        raise UsageError(f"--out: {fault}")
    write_records(args.out / "record", names=(NAME,), duration_s=DURATION_S)
    record, out = str(args.out / "record" / NAME), str(args.out)
    code = predict.main(["--record", record, "--out", out, "--overwrite"])
    if code == DONE:
        own = as_called("python -m study.predict --record PATH")
        print(
            f"strip:  {args.out / NAME}.png\npage:   {args.out / NAME}.html\n"
            f"next:   {own}      your own WFDB record"
        )
    return code


if __name__ == "__main__":
    leave(main())
