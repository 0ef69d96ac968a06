"""Lists all spaces, and the studies of this folder with their state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from study.errors import StudyError
from study.wording import plural


def list_lines(workspace: Path) -> Iterator[str]:
    """Yield every space with its question, and every study with its state."""
    from study.spaces.load import list_spaces
    from study.store.folder import study_names

    yield "spaces (search_spaces/):"
    for space in list_spaces():
        size = space.fault or f"{space.kind}, {plural(space.n_configurations, 'configuration')}"
        yield f"  {space.name:<18} {size}\n  {'':<18} {space.description}"
    names = study_names(workspace)
    yield "studies (studies/):" if names else "studies (studies/): none in this folder"
    for name in names:
        yield from (f"  {shown:<18} {line}" for shown, line in _study(workspace, name))


def _study(workspace: Path, name: str) -> Iterator[tuple[str, str]]:
    from study.store.study import Study

    try:
        study = Study.open(workspace, name)
        plan = study.plan
        yield name, f"{plan.kind} of space {plan.space}, data: {plan.data_source}"
        yield "", study.state
    except StudyError:
        yield name, f"cannot be read; `--status {name}` says why"
