"""What class weights and the logit adjustment do to scores and probabilities, on DS1.

  MITDB_DIR=... python benchmarks/priors.py --out FOLDER [--seeds 2]

Trains three arms (`beat` window, `published7`) on five folds of DS1 with three class weights:
those of the whole data set, as before they were those of an epoch; `none`; `sqrt_inverse`. Every
network is scored without and with the logit adjustment, of which training knows nothing.
Predictions are kept in FOLDER, so that a run that was stopped goes on. DS2 is not read.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds, make_folds
from study.data.prepare import prepare
from study.data.source import find_source
from study.keys import CLASSES
from study.training import member
from study.training.engine import Engine, resolve_precision
from study.training.loop import TrialTraining
from study.training.losses import class_weights
from study.training.scores import score

ARMS = ("film", "expert_sum", "concat_proj")
WEIGHTS = ("of the whole data set", "none", "sqrt_inverse")
SCORES = ("auprc_sv", "auprc_S", "auprc_V", "f1_S", "f1_V")
ADJUSTMENTS = ("none", "prior")

Float32 = NDArray[np.float32]


def main() -> None:
    """Train what is missing, and print a table of what is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of predictions")
    parser.add_argument("--seeds", type=int, default=2, help="seeds (default 2)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    source = find_source(data_dirs=[os.environ["MITDB_DIR"]], workspace=Path())
    beats = prepare(source, "beat", "antialiased", cache_dir=args.out / "cache")
    folds = make_folds(beats.record_names, beats.counts, patients=source.patients)
    rows: dict[tuple[str, str], list[list[float]]] = {}
    for seed in range(args.seeds):
        for arm in ARMS:
            for weights in WEIGHTS:
                path = args.out / f"{arm}-{weights.replace(' ', '_')}-{seed}.npz"
                if not path.exists():
                    none, prior = predicted(beats, folds, arm, weights, seed)
                    np.savez(path, none=none, prior=prior)
                with np.load(path) as kept:
                    for how in ADJUSTMENTS:
                        row = measured(kept[how], beats, folds)
                        rows.setdefault((weights, how), []).append(row)
    heading = [*SCORES, "Brier S", "Brier V", "N decided"]
    print(f"{'class_weights':<22} {'logit_adjustment':<16} {'  '.join(heading)}")
    for (weights, how), values in rows.items():
        means = "  ".join(
            f"{v:>{len(h)}.3f}" for v, h in zip(np.mean(values, 0), heading, strict=True)
        )
        print(f"{weights:<22} {how:<16} {means}  ({len(values)} trials)")


def predicted(
    beats: BeatSet, folds: Folds, arm: str, weights: str, seed: int
) -> tuple[Float32, Float32]:
    """Train a trial; return its log-probabilities [1, N, C] without and with the adjustment."""

    def chosen(label: NDArray[np.int64], kind: str, *, normal_beats: int) -> Float32:
        whole = weights == WEIGHTS[0]
        return class_weights(
            label, "sqrt_inverse" if whole else weights, normal_beats=0 if whole else normal_beats
        )

    config = TrialConfig.from_flat(
        {"segmentation": "beat", "fusion": arm, "logit_adjustment": "prior"}
    )
    engine = Engine(precision=resolve_precision("auto", "cpu"), compiled=True)
    with mock.patch.object(member, "class_weights", chosen):
        trial = TrialTraining(config, beats, folds, n_seeds=1, study_seed=seed, engine=engine)
    while not trial.finished:
        trial.run_epoch()
    result = trial.finish()
    added = np.stack([state["logit_adjustment"].numpy() for state in result.weights])
    plain = log_softmax(result.log_probs - added[folds.of_beats(beats)], axis=2)
    return plain.astype(np.float32), result.log_probs


def measured(log_probs: Float32, beats: BeatSet, folds: Folds) -> list[float]:
    """Return the scores, Brier scores of S and V, and the share of beats decided as N."""
    values = score(
        log_probs,
        beats.label,
        beats.record,
        folds.of_beats(beats),
        record_names=beats.record_names,
    ).values
    probs = np.exp(log_probs[0].astype(np.float64))
    own = np.arange(len(CLASSES)) == beats.label[:, None]
    brier = ((probs - own) ** 2).mean(axis=0)
    decided_n = float((probs.argmax(axis=1) == CLASSES.index("N")).mean())
    return [*(values[f"val_{name}"] for name in SCORES), brier[1], brier[2], decided_n]


if __name__ == "__main__":
    main()
