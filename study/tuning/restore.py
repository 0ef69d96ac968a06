"""A study's beats and folds prepared again from its plan, for what is looked up after its end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.data.cache import default_cache_dir
from study.data.folds import PUBLISHED
from study.data.records import DS1
from study.data.source import DATA_DIR_VARIABLE, Source, find_source, synthetic_source
from study.errors import StudyStateError
from study.spaces.load import override
from study.spaces.space import Space
from study.store.storage import Storage
from study.tuning.setup import Setup, set_up

_FOLDS = re.compile(r"(\d+)-fold, partition seed (\d+)")


def restore(
    plan: Mapping[str, Any],
    space: Space,
    storage: Storage,
    *,
    workspace: Path,
    data_dir: Path | None = None,
    records_dir: Path | None = None,
    split_file: Path | None = None,
) -> Setup:
    """Prepare a study's beats and folds again; nothing is downloaded or made up.

    Args:
        plan: The study's plan.
        space: Its space.
        storage: Where its trials' files are.
        workspace: Folder that it was started in.
        data_dir: Folder of the MIT-BIH records.
        records_dir: Folder of one's own records.
        split_file: Their split.

    Raises:
        StudyStateError: If its records are not here, or are not those that it saw.
        DataError: If they cannot be used.
    """
    source = _source(
        str(plan["data_source"]),
        workspace,
        data_dir=data_dir,
        records_dir=records_dir,
        split_file=split_file,
    )
    found = _FOLDS.fullmatch(str(plan["folds"]))
    folds: int | str = int(found[1]) if found else PUBLISHED
    setup = set_up(
        override(space, folds=folds),
        source,
        name=str(plan["name"]),
        study_seed=int(plan["study_seed"]),
        partition_seed=int(found[2]) if found else 0,
        device="cpu",
        precision="fp32",
        storage=storage,
        cache_dir=default_cache_dir(workspace),
    )
    now: dict[str, object] = {
        "fold_fingerprint": setup.plan.fold_fingerprint,
        "data_fingerprints": dict(setup.plan.data_fingerprints),
    }
    differing = [name for name, value in now.items() if plan[name] != value]
    if differing:
        raise StudyStateError(
            f"the records found here give other {' and '.join(differing)} than the study's plan"
        )
    return setup


def _source(
    kind: str,
    workspace: Path,
    *,
    data_dir: Path | None,
    records_dir: Path | None,
    split_file: Path | None,
) -> Source:
    made = workspace / "data" / "synthetic"
    if kind == "synthetic" and made.exists():
        return synthetic_source(made)
    local = workspace / "data" / "mitdb" / f"{DS1[0]}.dat"
    if kind == "mitdb" and not (data_dir or os.environ.get(DATA_DIR_VARIABLE) or local.exists()):
        raise StudyStateError("the MIT-BIH records are not here; give --data-dir")
    if kind == "records" and not (records_dir and split_file):
        raise StudyStateError("its own records are needed; give --records and --split")
    source = find_source(
        data_dir=data_dir,
        records_dir=records_dir,
        split_file=split_file,
        workspace=workspace,
        allow_download=False,
    )
    if source.kind != kind:
        raise StudyStateError(f"the study saw {kind} records; found here: {source.description}")
    return source
