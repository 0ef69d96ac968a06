"""The run of a study in MLflow, after its end: its origin, and files added to it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.errors import TrackingError
from study.keys import Tag
from study.tracking.mlflow_client import Client
from study.tracking.mlflow_sink import STUDY
from study.tracking.mlflow_store import find_store


class StudyRun:
    """The parent run of a study.

    Args:
        name: The study's name.
        study_id: Its identity; empty takes the name alone.
        tracking_uri: Database or server; None takes MLFLOW_TRACKING_URI, else the workspace's.
        experiment: Name of the MLflow experiment.
        workspace: Folder of the study.

    Raises:
        TrackingError: If the store cannot be used, or has no run of the study.
    """

    def __init__(
        self,
        name: str,
        *,
        study_id: str,
        tracking_uri: str | None,
        experiment: str,
        workspace: Path,
    ) -> None:
        store = find_store(tracking_uri, workspace)
        if store.default and not (workspace / "mlflow.db").exists():
            raise TrackingError(f"there is no mlflow.db in {workspace}")
        identity = {Tag.STUDY: name, Tag.KIND: STUDY}
        identity |= {Tag.STUDY_ID: study_id} if study_id else {}
        try:
            self._client = Client(store=store, experiment=experiment)
            found = self._client.search(identity)
        except TrackingError:
            raise
        except Exception as error:  # MLflow raises what its stores raise: no common base
            lines = store.redact(error).strip().splitlines() or [type(error).__name__]
            raise TrackingError(f"tracking: cannot use {store.shown}: {lines[0]}") from None
        if not found:
            raise TrackingError(f"tracking: {store.shown} has no run of study '{name}'")
        self._run: Any = found[0]
        self._store = store

    def origin(self) -> Mapping[str, str]:
        """Return commit, device, versions and times, as the run has them."""
        tags = self._run.data.tags
        versions = {
            name.removeprefix("version_"): value
            for name, value in sorted(tags.items())
            if name.startswith("version_")
        }
        found = {
            "commit": tags.get(Tag.GIT_COMMIT, ""),
            "device": tags.get(Tag.DEVICE, ""),
            "python": tags.get("host_python", ""),
            **versions,
        }
        return {name: value for name, value in found.items() if value}

    def times(self) -> tuple[int, int | None]:
        """Return when the run began and ended last, in ms since 1970."""
        return int(self._run.info.start_time), self._run.info.end_time

    def add(self, folder: Path) -> None:
        """Keep a folder among the run's files, under its own name.

        Raises:
            TrackingError: If the store does not take it.
        """
        try:
            self._client.upload(self._run.info.run_id, folder)
        except Exception as error:  # as above
            lines = self._store.redact(error).strip().splitlines() or [type(error).__name__]
            raise TrackingError(f"tracking: did not take the page: {lines[0]}") from None
