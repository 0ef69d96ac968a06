"""Show the records that a study would use, or verify a folder of them.

python -m study.data                                      find the records, show their table
python -m study.data --data-dir DIR --check               verify MIT-BIH files one by one
python -m study.data --records DIR --split FILE           one's own WFDB records
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from study.command import DONE, carry_out

UNUSABLE = 1
"""Exit code where the records cannot be used."""

_EPILOG = """\
Records are looked for in this order: --records with --split; --data-dir; the variable MITDB_DIR;
./data/mitdb; a download from PhysioNet into it (43 MB; broken off, it keeps the files that have
arrived); without network synthetic records in ./data/synthetic. A folder that is given and bad is
an error. Of MIT-BIH a study reads DS1 alone: DS2 is sealed, and its files may be absent.

A split file is TOML:
  name = "mydata"                          names the data set; letters, digits, - and _
  development = ["a01", "a02", "p7/b01"]   record names without suffix, relative to --records
  lead = "II"                              optional; default MLII, else V1, V2, V4, V5
  [patients]                               optional; default: each record is a patient
  a01 = "p1"
  a02 = "p1"
Each record needs a header (.hea), its signal file and beat annotations (.atr). Sampling rates from
100 Hz to 10 kHz will do: signals are resampled to 360 Hz.

exit codes:
  0  the records can be used
  1  they cannot: missing, damaged, not the published files, or the download broke off
  2  the command line or the split file breaks a rule
  130  interrupted; run again, a download fetches the files that are still missing
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    arguments = _parser().parse_args(argv)
    levels = [logging.WARNING, logging.INFO, logging.DEBUG]
    logging.basicConfig(level=levels[min(arguments.verbose, 2)], format="%(message)s")
    return carry_out(
        lambda: _report(arguments), kept=lambda: "run again, a download fetches what is missing"
    )


def _report(arguments: argparse.Namespace) -> int:
    # Imported here so that --help answers at once.
    from study.data import presence
    from study.errors import DataError, DownloadError

    report_on = presence.check if arguments.check else presence.show
    try:
        report = report_on(
            data_dir=arguments.data_dir,
            records_dir=arguments.records,
            split_file=arguments.split,
            workspace=Path.cwd(),
        )
    except (DataError, DownloadError) as error:
        print(f"error: {error}", file=sys.stderr)
        return UNUSABLE
    print(report.text)
    return DONE if report.good else UNUSABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m study.data",
        description="Show the records that a study would use: beats per class, what is left out "
        "and why, where the records come from.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="folder of the MIT-BIH records"
    )
    parser.add_argument(
        "--records", type=Path, metavar="DIR", help="folder of your own WFDB records"
    )
    parser.add_argument(
        "--split", type=Path, metavar="FILE", help="which of your own records to use (TOML)"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="verify a folder file by file against the published SHA-256 (your own records: read "
        "each) and download nothing",
    )
    parser.add_argument(
        "-v", "--verbose", action="count", default=0, help="tell more; twice: everything"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
