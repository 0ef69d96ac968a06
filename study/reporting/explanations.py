"""What was measured inside a study's networks, read from the files of the trials shown."""

from __future__ import annotations

from collections.abc import Mapping

from study.config import TrialConfig
from study.errors import StudyStateError
from study.models.fusion import FUSIONS
from study.reporting.results import Explanation
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, inspection_of, read_predictions
from study.store.trials import TrialRow
from study.training.results import MASKED_SHARE

_NOT_MEASURED = "trained by an earlier version, which did not measure it"


def explainable(configs: Mapping[str, TrialConfig]) -> list[str]:
    """Return the arms that attend over time or have a gated branch: those with a measurement."""
    return [
        arm
        for arm, config in configs.items()
        if FUSIONS[config.model.fusion].over_time or "gate" in FUSIONS[config.model.fusion].options
    ]


def read_explanations(
    shown: Mapping[str, TrialRow],
    configs: Mapping[str, TrialConfig],
    storage: Storage,
    *,
    n_beats: int,
) -> tuple[dict[str, Explanation], str]:
    """Return what trials measured by arm, and why some have nothing; empty where all have it."""
    explanations: dict[str, Explanation] = {}
    without: dict[str, list[str]] = {}  # numbers of trials by what they lack
    for arm in explainable(configs):
        if arm not in shown:
            continue
        row = shown[arm]
        try:
            arrays = read_predictions(storage, row.digest, n_beats=n_beats)
        except StudyStateError as error:
            without.setdefault(str(error), []).append(str(row.number))
            continue
        inspection = inspection_of(arrays or {})
        if arrays is None:
            without.setdefault(f"no {PREDICTIONS}", []).append(str(row.number))
        elif inspection is None:
            without.setdefault(_NOT_MEASURED, []).append(str(row.number))
        else:
            explanations[arm] = Explanation(
                trial=row.number,
                beats=inspection.beats,
                mean_beat=inspection.mean_beat,
                attention=inspection.attention,
                deletion=inspection.deletion,
                masked_share=MASKED_SHARE,
                branch_share=inspection.branch_share,
                gates=arrays.get("gates"),
            )
    reasons = [f"trials {', '.join(numbers)}: {reason}" for reason, numbers in without.items()]
    return explanations, "; ".join(reasons)
