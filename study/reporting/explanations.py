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
) -> tuple[dict[str, Explanation], dict[str, str]]:
    """Return what the trials measured by arm, and by arm why there is nothing."""
    explanations, absent = {}, {}
    for arm in explainable(configs):
        if arm not in shown:
            continue
        row = shown[arm]
        try:
            arrays = read_predictions(storage, row.digest, n_beats=n_beats)
        except StudyStateError as error:
            absent[arm] = f"trial {row.number}: {error}"
            continue
        inspection = inspection_of(arrays or {})
        if arrays is None:
            absent[arm] = f"trial {row.number} has no {PREDICTIONS}"
        elif inspection is None:
            absent[arm] = (
                f"trial {row.number} was trained by an earlier version, which did not measure it"
            )
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
    return explanations, absent
