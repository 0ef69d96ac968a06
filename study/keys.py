"""Names of metrics, tags and outcomes, and the limits of the score, for all modules alike.

The name implies the direction: higher `auprc`, `auroc`, `f1`, `se`, `ppv`, `sp` are better, lower
`loss` is better.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar, cast

T = TypeVar("T")

CLASSES = ("N", "S", "V", "F")
"""AAMI EC57 beat classes, in the order of every class axis [C]. Q is dropped and counted."""

SYMBOLS = {"N": "NLRejBn", "S": "AaJS", "V": "VEr", "F": "F", "Q": "/fQ?"}
"""WFDB's symbols of the beats of each class: ANSI/AAMI EC57.

The atrial and nodal escape beats (e, j) are in N, as in de Chazal, O'Dwyer and Reilly 2004. B, n
and r have the class of their nearest relative: B (unspecified bundle branch block) of the blocks L
and R, n (supraventricular escape) of e and j, r (R-on-T) of the premature V.
"""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""One for each class, distinct for colour-blind readers (Okabe & Ito 2008)."""

EPOCH = "epoch"
TRAIN_LOSS = "train_loss"
VAL_LOSS = "val_loss"
LEARNING_RATE = "learning_rate"
BEATS_PER_SECOND = "beats_per_second"

AUPRC_SV = "val_auprc_sv"
AUPRC_MACRO = "val_auprc_macro"
AUROC_MACRO = "val_auroc_macro"
AUROC_SV = "val_auroc_sv"
OBJECTIVES = (AUPRC_SV, AUPRC_MACRO, AUROC_SV, AUROC_MACRO)

UNRANKED = TRAIN_LOSS
"""Objective of the trials of a sealed test, where no beat is scored: every epoch has a training
loss, and no trial is ranked by it."""

FLOORS = (
    "prevalence",
    "logistic_regression",
    "logistic_ratios",
    "logistic_ratios_distances",
    "logistic_ratios_deviation",
)
"""Simple classifiers that every study and every sealed test score beside their arms."""

PRECISIONS = ("auto", "fp32", "tf32", "bf16")
"""Values of `--precision`; `auto` becomes one of the others."""

EXPERIMENTS = {
    "mitdb": "ecg-rr-fusion",
    "records": "ecg-rr-fusion-own-records",
    "synthetic": "ecg-rr-fusion-synthetic",
}
"""MLflow experiment of each data source: synthetic results are kept apart from real ones."""

GATE_MEAN, GATE_MIN, GATE_MAX = "gate_mean", "gate_min", "gate_max"

MIN_CLASS_BEATS = 10
"""Beats of a class that a fold needs to count in the class's score."""

MIN_EFFECTIVE_PATIENTS = 5.3
"""Effective number of patients that a class's score needs to be estimable, that is to have an
interval, a test, and a part in the macro of other records. With n equal patients there are 2^n
swaps and no two-sided p below 2 / 2^n, which is 5 % at 5.3: with fewer nothing could be shown."""

MIN_BEATS_OF_RECORD = 5
"""Beats of a class that a record needs to count in the class's patient mean."""

AGGREGATES = {"macro": CLASSES, "sv": ("S", "V")}
"""Means over classes; a mean is undefined where the score of one of its classes is."""

RELIANCE_KINDS = ("inputs", "window", "total")

RELIANCE_CLASSES = ("S", "V")
"""Classes whose AUPRC is compared with that under permuted RR: rhythm should help with these."""

MAX_CHANGE = "max_change"
"""In place of a class: the largest change of any log-probability, 0 where RR cannot be used."""


def metric(name: str, aami_class: str) -> str:
    """Name of a per-class metric: `metric("auprc", "S")` is `val_auprc_S`."""
    return f"val_{name}_{aami_class}"


def database_metric(database: str, of: str) -> str:
    """Name of the AUPRC among one database's beats: `val_svdb_auprc_S`."""
    return metric(f"{database}_auprc", of)


def sealed_metric(name: str, of: str) -> str:
    """Name of a metric on DS2, of a class or an aggregate: `test_auprc_S`."""
    return f"test_{name}_{of}"


def reliance(kind: str, aami_class: str) -> str:
    """Name of an RR reliance: the loss of AUPRC of a class when RR is permuted."""
    return f"rr_reliance_{kind}_{aami_class}"


BARE_ECG = ("ecg", "none")
"""Input and fusion of the arm that sees the ECG alone, with which RR arms are compared."""

EARLIER = {"seed7": "published7", "seed_experiments": "published_arms"}
"""Words of older spaces and stored studies, and the current words for them.

The older words wrongly suggest random seeds. They are read as the current words; digests keep them
(`study.config.digest_text`), so that an older study is found and resumed.
"""


def current_word(value: T) -> T:
    """Return a value, or the name of an arm, with earlier words replaced by current ones."""
    if not isinstance(value, str):
        return value
    words = " / ".join(EARLIER.get(word, word) for word in value.split(" / "))
    return cast(T, words)


class Outcome(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    """Trained for all epochs, with a finite score: can be compared."""
    PRUNED = "pruned"
    """Stopped early by the scheduler: never compared with complete trials."""
    SCREENED = "screened"
    """Trained for fewer epochs, to choose which configurations are trained in full: never
    compared."""
    FAILED = "failed"
    """Ended with an error, diverged, or without a finite score."""
    STOPPED = "stopped"
    """Interrupted by the user or the study's time limit: run again by `--resume`."""


class Tag:
    """MLflow tags. `DIGEST`, `ARM`, `ATTEMPT`, `OUTCOME`, `CAUSE`, `STUDY_ID` name attributes of
    Optuna's trials and study as well."""

    STUDY = "study"
    STUDY_ID = "study_id"
    KIND = "kind"
    SPACE = "space"
    ARM = "arm"
    INPUT = "input"
    FUSION = "fusion"
    DIGEST = "digest"
    ATTEMPT = "attempt"
    OUTCOME = "outcome"
    CAUSE = "cause"
    DATA_SOURCE = "data_source"
    DATA_FINGERPRINT = "data_fingerprint"
    FOLD_FINGERPRINT = "fold_fingerprint"
    GIT_COMMIT = "git_commit"
    DEVICE = "device"
    ENGINE = "engine"
    STAGE = "stage"
