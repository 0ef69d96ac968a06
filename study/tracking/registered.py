"""Out of MLflow's model registry: the seed ensemble that a name and an alias mean, or a file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.errors import CheckpointError, MissingDataError, TrackingError, UsageError, unknown
from study.models.seed_ensemble import SeedEnsemble
from study.tracking.mlflow_store import Store, connect, explained, find_store
from study.tracking.registry import CHAMPION, FILE, aliases_of

HOW = (
    "`python -m study.evaluate` trains models and registers them with --register NAME; a file of "
    "a seed ensemble can be given by its path"
)

_PATH = f"data/{FILE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An ensemble and where it was found."""

    ensemble: SeedEnsemble  # the networks
    origin: str  # one line for titles: name and version, or the file


def load(reference: str | None, *, workspace: Path, tracking_uri: str | None = None) -> Loaded:
    """Return the ensemble of a file, or of a registered model.

    Args:
        reference: Path of a file; `NAME@ALIAS`, `NAME@VERSION`, or `NAME`, which is its champion;
            None takes the only champion there is.
        workspace: Folder of the study.
        tracking_uri: As in `find_store`.

    Raises:
        MissingDataError: If it is a path, and there is no such file.
        UsageError: If there is no such model, alias or version, or none of several was chosen.
        CheckpointError: If the file is damaged, or of another version of this package.
        TrackingError: If the store cannot be used.
    """
    if reference is not None and _is_path(reference):
        path = Path(reference)
        if not path.is_file():
            raise MissingDataError(f"--model {reference}: no such file; {HOW}")
        return _loaded(path.read_bytes(), path.name)
    store = find_store(tracking_uri, workspace)
    if not store.exists():
        raise UsageError(f"--model: there is no MLflow store at {store.shown}; {HOW}")
    with explained(store):
        mlflow = connect(store)
        name, version = _resolved(mlflow, reference)
        with tempfile.TemporaryDirectory(prefix="study-model-") as folder:
            path = _downloaded(mlflow, store, name, version, Path(folder))
            content = path.read_bytes()
    return _loaded(content, f"{name} version {version}")


def _loaded(content: bytes, origin: str) -> Loaded:
    try:
        return Loaded(ensemble=SeedEnsemble.read(content), origin=origin)
    except CheckpointError as error:
        raise CheckpointError(f"--model {origin}: {error}") from error


def _is_path(reference: str) -> bool:
    return "/" in reference or reference.endswith(".pt") or Path(reference).is_file()


def _resolved(mlflow: Any, reference: str | None) -> tuple[str, str]:
    """Return name and version of the registered model that is meant."""
    models = aliases_of(mlflow)
    if reference is None:
        champions = [name for name, aliases in models.items() if CHAMPION in aliases]
        if len(champions) != 1:
            raise UsageError(_none_or_several(champions))
        reference = champions[0]
    name, _, which = reference.partition("@")
    which = which or CHAMPION
    if name not in models:
        raise UsageError(f"--model: {_unknown('registered model', name, models)}")
    versions = [str(v.version) for v in mlflow.search_model_versions(f"name={_quoted(name)}")]
    version = which if which.isdigit() else models[name].get(which)
    if version is None:
        raise UsageError(f"--model {name}: {_unknown('alias', which, models[name])}")
    if version not in versions:
        raise UsageError(f"--model {name}: {_unknown('version', version, versions)}")
    return name, version


def _quoted(name: str) -> str:
    return f'"{name}"' if "'" in name else f"'{name}'"


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return unknown(kind, name, known) if known else f"there is no {kind}; {HOW}"


def _none_or_several(champions: Sequence[str]) -> str:
    if not champions:
        return f"--model: there is no registered model; {HOW}"
    return f"--model NAME: choose one of the registered models {', '.join(sorted(champions))}"


def _downloaded(mlflow: Any, store: Store, name: str, version: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source = mlflow.get_model_version_download_uri(name, version)
    try:
        local = download_artifacts(
            artifact_uri=f"{source.rstrip('/')}/{_PATH}",
            dst_path=str(folder),
            tracking_uri=store.uri,
            registry_uri=store.uri,
        )
    except (OSError, MlflowException):
        raise TrackingError(
            f"--model {name}@{version}: {_PATH} cannot be had from {store.redact(source)}: its "
            "files were moved or deleted, or it is no model of this package"
        ) from None
    return Path(local)
