"""What a score before the last epoch is worth: that of stand-ins beside that of every beat.

  python benchmarks/steering.py STUDY_FOLDER [--stand-for 5 10 20]

Reads the out-of-fold predictions of a finished study's complete trials, and scores each once as
stored and once with every normal beat replaced by the one that stands for it, as
`study.training.batches` does in all epochs but the last. Nothing is trained.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from study.store.folder import BEATS
from study.store.trial_files import PREDICTIONS
from study.training import batches
from study.training.scores import score

METRICS = ("val_auprc_sv", "val_auprc_S", "val_auprc_V", "val_auprc_macro", "val_auroc_macro")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", type=Path, help="folder of a finished study")
    parser.add_argument("--stand-for", type=int, nargs="+", default=[5, 10, 20], metavar="N")
    args = parser.parse_args()
    with np.load(args.study / BEATS) as beats:
        label, record = beats["label"].astype(np.int64), beats["record"].astype(np.int64)
        fold = beats["folds_of_record"][:, record]
        names = [str(name) for name in beats["record_names"]]
    paths = sorted((args.study / "trials").glob(f"*/{PREDICTIONS}"))
    trials = [np.load(path)["log_probs"] for path in paths]
    exact = [score(t, label, record, fold, record_names=names).values for t in trials]
    print(
        f"{len(trials)} trials, {len(label):,} beats; stand-ins minus every beat: mean, sd; rank"
    )
    for stand_for in args.stand_for:
        batches.STANDS_FOR = stand_for
        stands = batches.stand_ins(label, record)
        rough = [score(t[:, stands], label, record, fold, record_names=names) for t in trials]
        print(f"one for {stand_for}: {len(np.unique(stands)):,} beats predicted")
        for name in METRICS:
            pairs = [(a[name], b.values[name]) for a, b in zip(exact, rough, strict=True)]
            change = [b - a for a, b in pairs]
            spread = statistics.stdev(change)
            of_trials = statistics.stdev(a for a, _ in pairs)
            rank = spearmanr(*np.transpose(pairs)).statistic
            print(
                f"  {name:<16} {statistics.fmean(change):+.4f} {spread:.4f}  "
                f"(sd of trials {of_trials:.4f})  {rank:.3f}"
            )


if __name__ == "__main__":
    main()
