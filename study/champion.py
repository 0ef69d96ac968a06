"""Makes a model from an arm of a comparison: `python -m study.champion --study NAME --arm ARM`.

  python -m study.champion --study recipe --arm width_64           width_64.pt and width_64.md
  python -m study.predict --record data/p01 --model width_64.pt    uses it

The arm is trained anew, with fresh seeds, on all records that its study saw: of MIT-BIH those of
DS1, never DS2. Probabilities are calibrated on the study's out-of-fold predictions. The file has
weights and settings, and no code; a model card beside it gives data, licence, figures and limits,
and a copy of a plug-in that its network is from lies there too.
The shipped champion was made by:

  python -m study.run --space recipe
  python -m study.champion --study recipe --arm recipe --seeds 5 --output study/models/champion.pt

Exit codes: 0 done; 2 the options, the study or the records cannot be used, or training diverged;
130 stopped by a signal: the same command starts again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.command import DONE, carry_out, leave, one_thread
from study.errors import StudyStateError, UsageError, listed, unknown
from study.files import output_fault, write_whole
from study.keys import Tag
from study.options import add_records, add_verbosity, command, set_logging, whole_number
from study.wording import plural, trained_on

if TYPE_CHECKING:
    from study.config import TrialConfig
    from study.data.beat_set import BeatSet
    from study.data.source import Source
    from study.statistics.predictions import ArmRuns
    from study.store.study import Study

SEEDS = 3
"""Default number of networks: more make the file larger and change the mean little."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    args = _parser().parse_args(argv)
    set_logging(verbose=args.verbose, quiet=args.quiet)
    one_thread()
    return carry_out(
        lambda: _make(args),
        kept=lambda: "nothing was written; the same command starts again",
        readable=lambda: f"the model is in {_output(args)}",
        verbose=args.verbose,
    )


def _parser() -> argparse.ArgumentParser:
    parser = command("champion", __doc__)
    parser.add_argument("--study", required=True, metavar="NAME", help="a finished comparison")
    parser.add_argument("--arm", required=True, metavar="ARM", help="which of its arms")
    parser.add_argument(
        "--seeds",
        type=whole_number,
        choices=range(1, 11),
        default=SEEDS,
        metavar="N",
        help=f"networks, 1 to 10, whose mean probability is taken (default {SEEDS})",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE.pt", help="the model's file (default: ARM.pt)"
    )
    add_records(parser.add_argument_group("the records that the study saw"))
    add_verbosity(parser)
    return parser


def _output(args: argparse.Namespace) -> Path:
    output: Path = args.output or Path(f"{args.arm}.pt")
    if output.suffix != ".pt":
        raise UsageError(f"--output: must end in .pt, as a model's file does, got {output}")
    # Beside a model a card is the model's; another file of its name is the user's own.
    card_fault = output_fault(output.with_suffix(".md"), new=not output.exists())
    if fault := output_fault(output) or card_fault:
        raise UsageError(f"--output: {fault}")
    return output


def _make(args: argparse.Namespace) -> int:
    from study.data.source import source_asked
    from study.models.rules import arm as parts_of_arm
    from study.models.seed_ensemble import SeedEnsemble
    from study.reporting.model_card import evidence, model_card
    from study.store.study import Study

    output = _output(args)
    study = Study.open(Path.cwd(), args.study).readable()
    study.space.refuse_rehearsal(study.name)
    config, runs = _arm(study, args.arm)
    copies = _copies_of_plugins(config, output)
    source = source_asked(args)
    beats = _beats(study, source, config)
    found = evidence(study.beats, runs, study.objective)
    weights = _trained(config, beats, study.plan.study_seed, args)
    records = trained_on(len(beats.record_names), source.kind)
    about = {
        "trained_on": f"{records}, {plural(args.seeds, 'seed')}; probabilities calibrated on "
        f"out-of-fold predictions of study '{study.name}'",
        Tag.DATA_SOURCE: source.kind,
        "study": study.name,
        "study_arm": args.arm,
    }
    ensemble = SeedEnsemble.of_weights(config, weights, about, found.temperature)
    content = ensemble.content()
    write_whole(output, content)
    card = output.with_suffix(".md")
    write_whole(card, model_card(ensemble, found, study.plan.databases, size=len(content)))
    for file, text in copies.items():
        write_whole(file, text)
    if found.warning:
        print(f"warning: {found.warning}", file=sys.stderr)
    beside = "".join(f"; plug-in: {file}" for file in copies)
    print(f"{output}: {parts_of_arm(config)}, {len(content) / 1000:.0f} kB; card: {card}{beside}")
    return DONE


def _copies_of_plugins(config: TrialConfig, output: Path) -> dict[Path, str]:
    """Return the plug-ins to write beside a model, which is read with them, and their texts.

    Raises:
        UsageError: If another file is in the place of one.
    """
    from study.models.plugins.plugin import Plugin, used_by

    plugins = {output.with_name(plugin.file): plugin for plugin in used_by(config.model)}
    faults = [
        f"{file}: is another plug-in than the arm's (digest {plugin.digest}); name another folder"
        for file, plugin in plugins.items()
        if file.exists() and Plugin.at(file) != plugin
    ]
    if faults:
        raise UsageError(listed("--output", faults))
    return {file: plugin.text for file, plugin in plugins.items()}


def _arm(study: Study, name: str) -> tuple[TrialConfig, ArmRuns]:
    """Return the configuration of an arm's first draw, and its out-of-fold predictions."""
    from dataclasses import replace

    from study.reporting.arm_runs import arm_runs

    if study.plan.kind != "compare":
        raise UsageError(
            f"--study {study.name}: is a search, which chose its arms by their scores; compare "
            f"them first: python -m study.run --confirm {study.name}"
        )
    row = study.arm_trials.get(name)
    if row is None:
        known = study.arm_trials
        raise UsageError(f"--arm: {unknown('arm with a complete trial', name, known)}")
    runs = next(run for run in arm_runs(study)[0] if run.name == name)
    first = runs.draw == (row.draw or 0)
    return study.configs[row.number], replace(
        runs, log_probs=runs.log_probs[first], draw=runs.draw[first], seed=runs.seed[first]
    )


def _beats(study: Study, source: Source, config: TrialConfig) -> BeatSet:
    """Return all beats that the study saw, as its arm sees them."""
    import numpy as np

    from study.data.beat_set import default_cache_dir
    from study.data.prepare import prepare_all

    cut = config.signal.cut
    cache_dir = default_cache_dir(Path.cwd())
    beats = prepare_all(source, [cut], cache_dir=cache_dir, study_seed=study.plan.study_seed)[cut]
    seen = study.beats
    same = seen.record_names == beats.record_names and np.array_equal(seen.label, beats.label)
    if source.kind != study.plan.data_source or not same:
        raise StudyStateError(
            f"study '{study.name}' saw other beats ({study.plan.data_source}) than those of "
            f"{source.description}; give the options for records that it was run with"
        )
    return beats


def _trained(
    config: TrialConfig, beats: BeatSet, study_seed: int, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Train networks on all beats; return their weights, rounded to half precision."""
    from study.data.folds import all_records
    from study.models.cpu_kernels import has_compiled_kernels
    from study.training.engine import Engine, resolve_precision
    from study.training.loop import TrialTraining

    training = TrialTraining(
        config,
        beats,
        all_records(beats.record_names),
        n_seeds=args.seeds,
        study_seed=study_seed,
        engine=Engine(resolve_precision("auto", "cpu"), compiled=has_compiled_kernels()),
    )
    epochs, begun = config.train.epochs, time.monotonic()
    while not training.finished:
        training.run_epoch()
        left_s = (time.monotonic() - begun) / training.epoch * (epochs - training.epoch)
        if not args.quiet:
            print(
                f"trained {training.epoch} of {plural(epochs, 'epoch')}, {left_s:.0f} s left",
                file=sys.stderr,
                flush=True,
            )
    return [_rounded(state) for state in training.finish().weights]


def _rounded(state: dict[str, Any]) -> dict[str, Any]:
    """Round weights to half precision, which halves the file; statistics stay exact."""
    statistics = ("rr_mean", "rr_sd", "running_mean", "running_var", "num_batches_tracked")
    return {
        name: values if name.endswith(statistics) else values.half().to(values.dtype)
        for name, values in state.items()
    }


if __name__ == "__main__":
    leave(main())
