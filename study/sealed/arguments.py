"""The options of `python -m study.evaluate`; its help needs no heavy import."""

from __future__ import annotations

import argparse
from pathlib import Path

from study.data.catalogue import EXTERNAL_LEADS, database_faults
from study.errors import UsageError, listed
from study.options import (
    add_lead,
    add_machine,
    add_plugin,
    add_tracker,
    add_verbosity,
    command,
    given_besides,
)
from study.spaces.sealed_plan import OWN


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the given description."""
    options = command("evaluate", description)
    task = options.add_argument_group("what is done").add_mutually_exclusive_group(required=True)
    task.add_argument("--plan", type=Path, metavar="FILE", help="evaluate this plan")
    task.add_argument("--write-plan", metavar="STUDY", help="write a plan from a study's results")
    task.add_argument(
        "--openings", action="store_true", help="show how often each test set was opened"
    )
    write = options.add_argument_group("with --write-plan")
    write.add_argument(
        "--arms",
        type=_names,
        default=(),
        metavar="A,B,C",
        help="which arms, the one of interest first, or 'all' (default: of a comparison the best "
        "arm that uses RR, its placebo, the reference and the bare ECG; of a search the best "
        "configuration and its placebo)",
    )
    write.add_argument(
        "--output", type=Path, metavar="FILE", help="file of the plan (default: STUDY_test.toml)"
    )
    write.add_argument(
        "--on",
        type=_names,
        default=(),
        metavar="NAMES",
        help="what arms train on, written as `--data` of a study; with several, as in "
        "mitdb+svdb,mitdb, each arm trains on each, as an arm of its own (default: what the study "
        "had)",
    )
    write.add_argument("--study-storage", metavar="URL", help="Optuna storage of the study")
    _add_plan_options(options.add_argument_group("with --plan"))
    _add_records(options.add_argument_group("test set and records, with --plan"))
    add_verbosity(options.add_argument_group("how much it tells"))
    return options


def _add_plan_options(how: argparse._ArgumentGroup) -> None:
    add_plugin(how)
    how.add_argument("--dry-run", action="store_true", help="say what would be done; open nothing")
    instead = how.add_mutually_exclusive_group()
    instead.add_argument(
        "--stop-before-opening",
        action="store_true",
        help="train and fix thresholds, then end; open nothing",
    )
    instead.add_argument(
        "--again",
        action="store_true",
        help="open the test set once more for a plan that has a result; this opening is counted "
        "too",
    )
    instead.add_argument(
        "--register",
        metavar="NAME",
        help="put the trained seed ensemble of an arm into MLflow's model registry, as "
        "NAME@champion; trains nothing, opens nothing",
    )
    how.add_argument(
        "--ec57",
        choices=("study", "bxb"),
        default="study",
        help="class of escape beats (e, j, n) in the EC57 table: N, as in the study, or with bxb "
        "a second table that has them in S, as PhysioNet's bxb counts them; stored results stay "
        "as they are (default: %(default)s)",
    )
    how.add_argument(
        "--arm", metavar="ARM", help="arm whose ensemble to --register (default: the plan's first)"
    )
    add_machine(how, "arms")
    how.add_argument(
        "--storage",
        metavar="PLACE",
        help="where trials keep their files, those of the plan's study too: shared folder, s3://, "
        "gs:// (default: in the folders of the studies)",
    )
    add_tracker(how)


def _add_records(which: argparse._ArgumentGroup) -> None:
    which.add_argument(
        "--test",
        metavar="NAME",
        help="the test set: DS2, DS1, a database that no arm trains on, or the name of a --split "
        "file; each has its own log of openings (default: DS2)",
    )
    which.add_argument(
        "--synthetic",
        action="store_true",
        help="rehearse on synthetic records, under rehearsals/: no opening of the test set",
    )
    which.add_argument(
        "--data-dir",
        action="append",
        default=[],
        metavar="[NAME=]DIR",
        help="folder of a database; with several, once for each, as in svdb=DIR (default: "
        "MITDB_DIR, SVDB_DIR and so on, ./data/NAME, PhysioNet); with --synthetic: of the "
        "synthetic records (default: ./data/rehearsal)",
    )
    which.add_argument(
        "--records",
        type=Path,
        metavar="DIR",
        help="test the plan's models on this folder of annotated WFDB records instead; trains "
        "what is not trained, opens nothing. With --test: the folder of one's own records",
    )
    which.add_argument(
        "--split",
        type=Path,
        metavar="FILE",
        help="TOML file that says which of the --records to use, of which patients, and the "
        "name of the data set (default: all that have beat annotations, each one a patient, under "
        "the folder's name); with --test, its `development` trains and its `test` is opened",
    )
    which.add_argument(
        "--strict",
        action="store_true",
        help="refuse the folder if one record cannot be used (default: leave that record out and "
        "say so)",
    )
    add_lead(which, "lead to read of --records, without --test", EXTERNAL_LEADS)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise argparse.ArgumentTypeError("give names with commas between them")
    return names


_OF_WRITING = {"arms", "output", "on", "study_storage"}
_ALLOWED = {
    "openings": {"synthetic"},
    "write_plan": _OF_WRITING,
}
"""Options allowed with a task; --plan alone allows all except those for writing a plan."""


def check(args: argparse.Namespace, options: argparse.ArgumentParser) -> None:
    """Check that options go together.

    Raises:
        UsageError: If an option lacks its partner, means nothing here, or excludes another; names
            all faults.
    """
    partners = {
        "--lead": ("--records", bool(args.lead), args.records),
        "--split": ("--records", args.split is not None, args.records),
        "--strict": ("--records", args.strict, args.records),
        "--arm": ("--register", args.arm is not None, args.register),
    }
    without_partner = [
        (option, partner)
        for option, (partner, given, there) in partners.items()
        if given and there is None
    ]
    faults = [
        f"{option} goes with {partner}, which is not given" for option, partner in without_partner
    ]
    names_test_set = args.test is not None
    faults += [
        f"{option} goes with --records without --test, which is given"
        for option, given in (("--lead", args.lead), ("--strict", args.strict))
        if given and names_test_set
    ]
    if names_test_set and args.records is not None and args.split is None:
        faults.append("--records with --test needs --split FILE: what trains, and what tests")
    about_openings = {
        "--stop-before-opening": args.stop_before_opening,
        "--again": args.again,
        "--register": args.register is not None,
    }
    if args.records is not None and not names_test_set:
        faults += [
            f"{option} cannot go with --records without --test, which opens nothing"
            for option, given in about_openings.items()
            if given
        ]
    faults += [
        f"--on: {fault}" for name in args.on if name != OWN for fault in database_faults(name)
    ]
    if names_test_set and args.register is not None:
        faults.append("--register adds the result on DS2; leave --test out")
    if args.register is not None and args.no_track:
        faults.append(
            "--register writes into MLflow's registry, and --no-track keeps MLflow out; leave one "
            "of them out"
        )
    if args.ec57 != "study" and (args.register or args.stop_before_opening or args.dry_run):
        faults.append(
            "--ec57 cannot go with --register, --dry-run or --stop-before-opening, which print no "
            "EC57 table"
        )
    defaults = {name: options.get_default(name) for name in vars(args)}
    task = next((name for name in _ALLOWED if getattr(args, name) != defaults[name]), "plan")
    allowed = _ALLOWED.get(task, defaults.keys() - _OF_WRITING)
    meaningless = given_besides(args, defaults, {task, *allowed})
    faults += [
        f"{option} means nothing with --{task.replace('_', '-')}"
        for option in meaningless
        if option not in (name for name, _ in without_partner)
    ]
    if faults:
        raise UsageError(listed("options", faults))
