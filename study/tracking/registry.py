"""MLflow's model registry: writes a seed ensemble as a model version, and loads it again.

A version is a pyfunc whose code is `study.models.served` and whose data is the ensemble's file.
Nothing is pickled. This package's code is kept with it, so that `mlflow models serve` needs no
more than the version's own environment. The files belong to a run, through which the UI shows the
version's origin.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np

import study
from study.data.reference.templates import template_text
from study.errors import StoreAwayError, TrackingError, UsageError, unknown
from study.keys import CLASSES, Tag
from study.models import rules, served
from study.models.plugins.plugin import used_by
from study.models.seed_ensemble import Loaded, SeedEnsemble
from study.models.served import input_widths
from study.tracking.experiment import Experiment
from study.tracking.mlflow_runs import origin
from study.tracking.mlflow_store import Store, connect, every, explained, find_store
from study.tracking.run_facts import as_text
from study.tracking.view import quoted

CHAMPION = "champion"
"""Alias of the version that was registered last."""

KIND = "model"
"""Value of the tag `kind` of a run that holds a model."""

FILE = "ensemble.pt"
"""Name of the ensemble's file, in the folder `data` of the model."""

HOW = (
    "`python -m study.evaluate` trains models and registers them with --register NAME; a file of "
    "a seed ensemble, as `python -m study.champion` makes it, can be given by its path; without "
    "--model the shipped champion is used"
)

ADDRESS = "models:/"
"""What MLflow writes before the name of a registered model."""

_DATA = "data"
"""Folder of a version with the ensemble's file, and the plug-ins that its networks are from."""

_FOLDER = "model"
_NOT_IN_NAMES = "/:@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A version of a registered model."""

    name: str  # the registered model
    version: str  # which version of it
    previous: str | None  # the version that was champion before; None for the first

    def __str__(self) -> str:
        """Return it as one line."""
        was = f" (before: version {self.previous})" if self.previous else ""
        return f"registered as {self.name}@{CHAMPION}: version {self.version}{was}"


def register(
    ensemble: SeedEnsemble,
    name: str,
    *,
    experiment: str,
    workspace: Path,
    tracking_uri: str | None = None,
) -> Registered:
    """Add an ensemble to the registry as the champion of a registered model.

    A registered model that exists gets a new version; one that does not is made. A run of the
    MLflow experiment holds the files; `tracking_uri` is as in `find_store`.

    Raises:
        UsageError: If the name is empty or has a character that addresses use.
        TrackingError: If the store cannot be used.
    """
    from mlflow.entities import Param

    check_name(name)
    holder = Experiment(tracking_uri=tracking_uri, name=experiment, workspace=workspace)
    with _advised(), explained(holder.store):
        client, experiment_id = holder.connect()
        about = {**ensemble.about, Tag.KIND: KIND, Tag.ARM: rules.arm(ensemble.config)}
        run = client.create_run(
            experiment_id,
            run_name=f"model {name}",
            tags={**origin(about), **as_text(about)},
        )
        run_id = str(run.info.run_id)
        params = as_text(ensemble.config.flat()).items()
        client.log_batch(run_id, params=[Param(key, value) for key, value in params])
        with tempfile.TemporaryDirectory(prefix="study-model-") as folder:
            path = Path(folder, _FOLDER)
            _save(ensemble, path)
            holder.add_folder(run_id, path)
        client.set_terminated(run_id, "FINISHED")
        return _add_version(client, ensemble, name, run_id)


@contextmanager
def _advised() -> Iterator[None]:
    """Add advice to the error of an unreachable store."""
    try:
        yield
    except StoreAwayError as error:
        raise TrackingError(f"{error.args[0]}; start it, or give another --tracking-uri") from None


def check_name(name: str) -> None:
    """Check the name of a registered model, before anything is trained for it.

    Raises:
        UsageError: If it is empty or has a character that addresses use.
    """
    if not name.strip() or any(c in name for c in _NOT_IN_NAMES):
        raise UsageError(
            f"model name: must be a text without {' '.join(_NOT_IN_NAMES)}, got {name!r}"
        )


def _save(ensemble: SeedEnsemble, folder: Path) -> None:
    """Write an ensemble as an MLflow model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.models import ModelSignature
        from mlflow.pyfunc import save_model
        from mlflow.types import Schema, TensorSpec

        real = np.dtype(np.float32)
        widths = input_widths(ensemble.config.signal)
        inputs = [TensorSpec(real, (-1, width), name) for name, width in widths.items()]
        file = folder.parent / FILE
        file.write_bytes(ensemble.content())
        save_model(
            folder,
            loader_module=served.__name__,
            data_path=file,
            code_paths=[str(Path(study.__file__).parent)],
            signature=ModelSignature(
                inputs=Schema(inputs),
                outputs=Schema([TensorSpec(real, (-1, len(CLASSES)))]),
            ),
            input_example={name: _example(width) for name, width in widths.items()},
            # Named here; otherwise MLflow would infer them by loading the model in a new process.
            pip_requirements=[f"{name}=={_release(name)}" for name in ("numpy", "torch")],
            metadata={"classes": list(CLASSES), "configuration": ensemble.config.flat()},
        )
    for plugin in used_by(ensemble.config.model):
        (folder / _DATA / plugin.file).write_text(plugin.text, encoding="utf-8")


def _example(width: int) -> Any:
    return np.linspace(-1.0, 1.0, 2 * width, dtype=np.float32).reshape(2, width)


def _release(package: str) -> str:
    """Return a version as in the package index, without a local build label."""
    return version_of(package).partition("+")[0]


def _add_version(mlflow: Any, ensemble: SeedEnsemble, name: str, run_id: str) -> Registered:
    models = aliases_of(mlflow)
    if name not in models:
        mlflow.create_registered_model(name)
    source = f"{mlflow.get_run(run_id).info.artifact_uri.rstrip('/')}/{_FOLDER}"
    added = mlflow.create_model_version(
        name,
        source,
        run_id=run_id,
        tags=as_text({**ensemble.about, Tag.ARM: rules.arm(ensemble.config)}),
        description=_description(ensemble),
    )
    mlflow.set_registered_model_alias(name, CHAMPION, added.version)
    previous = models.get(name, {}).get(CHAMPION)
    return Registered(name=name, version=str(added.version), previous=previous)


def _description(ensemble: SeedEnsemble) -> str:
    signal = ensemble.config.signal
    lines = [
        f"{rules.arm(ensemble.config)}: mean probability of {len(ensemble.models)} networks.",
        *(f"{name}: {text}" for name, text in ensemble.about.items()),
        "",
        "Input, a dict of float32 arrays with a row a beat:",
    ]
    source = ""
    if signal.template != "none":
        text = template_text(signal.template)
        source = f"study.data.reference.templates, from the template {text}"
    if "beat" in signal.windows:
        lines.append(f"- ecg [beats, 128]: window cut as '{signal.segmentation}', in any unit")
    if "deviation" in signal.windows:
        lines.append(
            f"- deviation [beats, 128]: of the window cut as '{signal.segmentation}', {source}"
        )
    if signal.early_set:
        lines.append(f"- early_rr [beats, 2]: study.data.rr, '{signal.early_set}'")
    if signal.late_set:
        width = input_widths(signal)["late_rr"]
        lines.append(f"- late_rr [beats, {width}]: study.data.rr, '{signal.late_set}', unscaled")
    if signal.n_shape:
        lines.append(f"- late_shape [beats, {signal.n_shape}]: distances, {source}")
    lines += ["", f"Output: probabilities of {', '.join(CLASSES)} [beats, {len(CLASSES)}]."]
    return "\n".join(lines)


def aliases_of(mlflow: Any) -> dict[str, Mapping[str, str]]:
    """Return the aliases of every registered model, each with its version."""
    models = every(mlflow.search_registered_models)
    # A database gives versions as numbers, a server as texts.
    return {m.name: {alias: str(v) for alias, v in m.aliases.items()} for m in models}


def load(
    reference: str,
    *,
    workspace: Path,
    tracking_uri: str | None = None,
    plugins: Iterable[Path] = (),
) -> Loaded:
    """Return the ensemble of a registered model.

    Args:
        reference: `NAME@ALIAS`, `NAME@VERSION`, or `NAME`, which is its champion; also as MLflow
            writes them, after `models:/`.
        workspace: Folder of the study.
        tracking_uri: As in `find_store`.
        plugins: Files; among them, or beside the model's file, are those that its networks are
            from, if any is.

    Raises:
        UsageError: If there is no such model, alias or version.
        CheckpointError: If its file is damaged, or of another version of this package.
        PluginError: If a plug-in of its networks is missing, or cannot be used.
        TrackingError: If the store cannot be used.
    """
    store = find_store(tracking_uri, workspace)
    if not store.exists():
        raise UsageError(f"--model: there is no MLflow store at {store.shown}; {HOW}")
    with tempfile.TemporaryDirectory(prefix="study-model-") as folder:
        with _advised(), explained(store):
            mlflow = connect(store)
            name, version = _resolved(mlflow, reference.removeprefix(ADDRESS))
            file = _downloaded(mlflow, store, name, version, Path(folder))
        return Loaded.at(file, f"{name} version {version}", plugins)


def _resolved(mlflow: Any, reference: str) -> tuple[str, str]:
    """Return name and version of the registered model that is meant."""
    models = aliases_of(mlflow)
    # MLflow writes models:/NAME@ALIAS, but models:/NAME/VERSION.
    name, _, which = reference.replace("/", "@", 1).partition("@")
    which = which or CHAMPION
    if name not in models:
        raise UsageError(f"--model: {_unknown('registered model', name, models)}")
    versions = [str(v.version) for v in mlflow.search_model_versions(f"name={quoted(name)}")]
    version = which if which.isdigit() else models[name].get(which)
    if version is None:
        raise UsageError(f"--model {name}: {_unknown('alias', which, models[name])}")
    if version not in versions:
        raise UsageError(f"--model {name}: {_unknown('version', version, versions)}")
    return name, version


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    return unknown(kind, name, known) if known else f"there is no {kind}; {HOW}"


def _downloaded(mlflow: Any, store: Store, name: str, version: str, folder: Path) -> Path:
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    source = mlflow.get_model_version_download_uri(name, version)
    try:
        local = download_artifacts(
            artifact_uri=f"{source.rstrip('/')}/{_DATA}",
            dst_path=str(folder),
            tracking_uri=store.uri,
            registry_uri=store.uri,
        )
    except (OSError, MlflowException):
        local = ""
    file = Path(local, FILE)
    if not file.is_file():
        raise TrackingError(
            f"--model {name}@{version}: {_DATA}/{FILE} cannot be downloaded from "
            f"{store.redact(source)}: its files were moved or deleted, or it is no model of this "
            "package"
        )
    return file
