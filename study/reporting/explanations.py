"""What was looked up inside a study's networks: computed once for each arm, kept in its folder."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from study.archive import archive_fault, read_arrays
from study.config import TrialConfig, digest_of
from study.errors import ArchiveError, CheckpointError, StudyStateError
from study.models.fusion import FUSIONS
from study.reporting.page.results import Explanation
from study.store.storage import Storage
from study.store.trial_files import PREDICTIONS, WEIGHTS, read_predictions
from study.store.trials import TrialRow
from study.training import explain
from study.training.device import DeviceBeats
from study.training.engine import Engine
from study.training.ensemble import build_members
from study.tuning.setup import Setup

FOLDER = "explanations"

_DAMAGED = (
    *(CheckpointError, RuntimeError, EOFError, LookupError, AttributeError, TypeError),
    *(ValueError, pickle.UnpicklingError),
)
_NEEDED = {"key": ("U", 0), "beats": ("i", 1), "mean_beat": ("f", 2)}
_OPTIONAL = {
    **{"attention": ("f", 3), "branch_share": ("f", 1), "gates": ("f", 2)},
    **{f"deletion_{mask}": ("f", 0) for mask in explain.MASKS},
}


def explainable(configs: Mapping[str, TrialConfig]) -> list[str]:
    """Return the arms that have something to look up: attention over time, or a gated branch."""
    return [
        arm
        for arm, config in configs.items()
        if FUSIONS[config.model.fusion].over_time or "gate" in FUSIONS[config.model.fusion].options
    ]


def stored(
    folder: Path, shown: Mapping[str, TrialRow], configs: Mapping[str, TrialConfig]
) -> dict[str, Explanation]:
    """Return the explanations that a study's folder has.

    Args:
        folder: The study's folder.
        shown: The trial that stands for each arm.
        configs: The configuration of each arm.
    """
    found = {}
    for arm in explainable(configs):
        if arm in shown:
            explanation = _read(folder, shown[arm])
            if explanation is not None:
                found[arm] = explanation
    return found


def explain_arms(
    folder: Path,
    setup: Setup,
    shown: Mapping[str, TrialRow],
    configs: Mapping[str, TrialConfig],
    *,
    say: Callable[[str], None],
) -> dict[str, str]:
    """Look inside the networks of arms that have no explanation yet; return what failed, and why.

    Args:
        folder: The study's folder.
        setup: Its beats and folds.
        shown: The trial that stands for each arm.
        configs: The configuration of each arm.
        say: Told what is being done.
    """
    failed = {}
    on_device: dict[tuple[str, str], DeviceBeats] = {}
    for arm in explainable(configs):
        if arm not in shown or _read(folder, shown[arm]) is not None:
            continue
        say(f"looking inside {arm}")
        config, row = configs[arm], shown[arm]
        files = setup.job.storage.folder(row.digest)
        try:
            predictions = read_predictions(
                setup.job.storage, row.digest, n_beats=len(setup.beats.label)
            )
        except StudyStateError as error:
            failed[arm] = f"trial {row.number}: {error}"
            continue
        weights = files.read(WEIGHTS)
        if weights is None or predictions is None:
            failed[arm] = (
                f"trial {row.number} has no {WEIGHTS if weights is None else PREDICTIONS}"
            )
            continue
        cut = (config.signal.segmentation, config.signal.resampling_method)
        if cut not in on_device:
            on_device[cut] = DeviceBeats(setup.job.of(config), torch.device("cpu"))
        try:
            insides = _insides(config, setup, on_device[cut], weights)
        except _DAMAGED as error:
            failed[arm] = (
                f"trial {row.number}: its weights cannot be used ({type(error).__name__})"
            )
            continue
        _write(folder, row, insides, predictions.get("gates"))
    return failed


def _insides(
    config: TrialConfig, setup: Setup, beats: DeviceBeats, weights: bytes
) -> explain.Insides:
    """Look inside the members of the first seed."""
    if fault := archive_fault(weights):
        raise CheckpointError(fault)
    states = torch.load(io.BytesIO(weights), weights_only=True)
    members = build_members(
        config,
        beats,
        setup.job.folds.masks(beats.beats),
        seeds=range(1),
        study_seed=setup.job.study_seed,
        engine=Engine(),
    )
    for member, state in zip(members, states[: len(members)], strict=True):
        member.scored.load_state_dict(state)
    return explain.look_inside(members, beats, setup.job.folds.of_beats(beats.beats))


def _write(
    folder: Path, row: TrialRow, insides: explain.Insides, gates: NDArray[Any] | None
) -> None:
    arrays: dict[str, Any] = {
        "key": np.asarray(_key(row)),
        "beats": insides.beats,
        "mean_beat": insides.mean_beat,
        **{f"deletion_{mask}": value for mask, value in insides.deletion.items()},
    }
    if insides.attention is not None:
        arrays["attention"] = insides.attention
    if insides.branch_share is not None:
        arrays["branch_share"] = insides.branch_share
    if gates is not None:
        arrays["gates"] = gates
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    Storage.at(folder / FOLDER).write(f"{row.digest}.npz", buffer.getvalue())


def _read(folder: Path, row: TrialRow) -> Explanation | None:
    content = Storage.at(folder / FOLDER).read(f"{row.digest}.npz")
    if content is None:
        return None
    try:
        arrays = read_arrays(content, _NEEDED, _OPTIONAL)
    except ArchiveError:  # looked up anew, as is what an older explanation left
        return None
    if str(arrays["key"]) != _key(row):
        return None
    return Explanation(
        trial=row.number,
        beats=arrays["beats"],
        mean_beat=arrays["mean_beat"],
        attention=arrays.get("attention"),
        deletion=dict(_deletions(arrays)),
        masked_share=explain.MASKED_SHARE,
        branch_share=arrays.get("branch_share"),
        gates=arrays.get("gates"),
    )


def _deletions(arrays: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for mask in explain.MASKS:
        if f"deletion_{mask}" in arrays:
            yield mask, float(arrays[f"deletion_{mask}"])


def _key(row: TrialRow) -> str:
    code = hashlib.sha256(Path(explain.__file__).read_bytes()).hexdigest()
    return digest_of([code, row.digest])
