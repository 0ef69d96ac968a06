"""Reads a space by its name, applies settings of the command line, and checks it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from study.config import PARAMETERS, value_faults
from study.data.folds import folds_fault
from study.errors import SpaceError, UsageError, listed, unknown
from study.keys import current_word
from study.spaces import toml_file
from study.spaces.settings import REHEARSAL, setting_faults
from study.spaces.space import Space
from study.spaces.toml_text import toml_text_of

_PLACES = [parent / "search_spaces" for parent in Path(__file__).resolve().parents[1:3]]
"""Where this project's spaces are: in the package of a wheel, beside the package of a checkout."""

_REHEARSED, _NORMAL_BEATS = 12, 500
"""Trials of a rehearsal at most, and normal beats of its epoch."""

FOLDER = next(filter(Path.is_dir, _PLACES), _PLACES[-1])
"""Folder of this project's spaces."""


@dataclass(frozen=True, slots=True)
class SpaceSummary:
    """A space as a list shows it; `fault` says why a file cannot be used."""

    name: str
    kind: str = ""
    description: str = ""
    n_configurations: int = 0
    fault: str = ""


def load_space(name_or_path: str | Path, folder: Path = FOLDER) -> Space:
    """Read and check a space: one of the folder by name, or a file that ends in .toml.

    A name cannot lead out of the folder.

    Raises:
        SpaceError: If there is no such space, or its file breaks a rule; all faults together.
    """
    path, shown, text = _read(str(name_or_path), folder)
    tables, faults = toml_file.read_tables(text)
    if faults:
        raise SpaceError(listed(shown, faults))
    return checked_space(tables, path, text, shown=shown)


def checked_space(tables: Mapping[str, Any], path: Path, text: str, *, shown: str = "") -> Space:
    """Build a space from parsed TOML; messages call it `shown`, or by its path.

    Raises:
        SpaceError: If it breaks a rule; all faults together.
    """
    # Imported here: the checks import PyTorch, and a misspelt name should be reported at once.
    from study.spaces import checks

    parsed, faults = toml_file.parse_tables(tables, checks.with_class_faults)
    if parsed:
        space = Space(name=path.stem, path=path, text=text, **parsed)
        faults += checks.space_faults(space, sampler=not faults)
    if faults:
        raise SpaceError(listed(shown or str(path), faults))
    return space.within_grid(whole=not space.trials)


def list_spaces(folder: Path = FOLDER) -> list[SpaceSummary]:
    """Return every space of a folder by name, also those whose file has faults.

    Illegal combinations, and options that one class declares, need PyTorch, which takes seconds to
    import: they are checked when a space is loaded.
    """
    summaries = []
    for path in sorted(folder.glob("*.toml")):
        try:
            _, shown, text = _read(path.stem, folder)
            tables, faults = toml_file.read_tables(text)
            parsed: dict[str, Any] = {}
            if not faults:
                parsed, faults = toml_file.parse_tables(_without_class_options(tables))
            if faults:
                raise SpaceError(listed(shown, faults))
        except SpaceError as error:
            summaries.append(SpaceSummary(path.stem, fault=str(error)))
        else:
            space = Space(name=path.stem, path=path, text=text, **parsed)
            n_trials = space.within_grid(whole=not space.trials).trials
            summaries.append(SpaceSummary(path.stem, space.kind, space.description, n_trials))
    return summaries


def _without_class_options(tables: dict[str, Any]) -> dict[str, Any]:
    known, arms = {*PARAMETERS, "name", "placebo"}, tables.get("arms")
    listed_arms = arms if isinstance(arms, list) else []
    for table in (tables.get("fixed"), tables.get("params"), *listed_arms):
        for name in [*table] if isinstance(table, dict) else ():
            if name not in known:
                del table[name]
    return tables


def override(
    space: Space, n_patients: int | None = None, /, **settings: int | str | None
) -> Space:
    """Return a space with settings of the command line; None leaves one as it is.

    Where the number of patients is given, they must allow the folds.

    Raises:
        UsageError: If a value is not allowed, or a setting means nothing in this kind.
    """
    given: dict[str, Any] = {n: value for n, value in settings.items() if value is not None}
    epochs = given.pop("epochs", None)
    faults = [] if epochs is None else value_faults("epochs", epochs, PARAMETERS["epochs"])
    faults += [fault for item in given.items() for fault in setting_faults(space.kind, *item)]
    n_folds = given.get("folds", space.folds)
    if (
        n_patients is not None
        and isinstance(n_folds, int)
        and not any(fault.startswith("folds") for fault in faults)
    ):
        faults += filter(None, [folds_fault(n_folds, n_patients)])
    changed = space
    if not faults:
        from study.spaces import checks

        changed = replace(space if epochs is None else space.with_epochs(epochs), **given)
        if "trials" not in given:
            changed = changed.within_grid(whole="sampler" in given)
        faults = checks.sampler_faults(changed) + checks.partition_faults(changed)
    if faults:
        raise UsageError(listed(f"space {space.name}", faults))
    if changed == space or not space.text:
        return changed
    if changed.kind == "search":
        given["trials"] = changed.trials
    return replace(changed, text=_changed_text(space, given, epochs))


def _changed_text(space: Space, given: Mapping[str, Any], epochs: int | None) -> str:
    """Return a space's text with other settings: a study's folder keeps what is run."""
    tables = tomllib.loads(space.text)
    tables[space.kind] |= given
    if epochs is not None:
        _fix(tables, "epochs", epochs)
    said = given if epochs is None else {**given, "epochs": epochs}
    changes = ", ".join(f"{name} = {value}" for name, value in said.items())
    return toml_text_of(tables, comments=f"The space {space.name} with {changes}.")


def _fix(tables: dict[str, Any], name: str, value: int) -> None:
    """Give every configuration of a parsed space one value of a parameter."""
    tables.setdefault("fixed", {})[name] = value
    for table in (tables.get("params", {}), *tables.get("arms", ())):
        table.pop(name, None)


def rehearsal(space: Space) -> Space:
    """Return the smallest space that takes the same path in minutes; its scores mean nothing.

    Each arm is trained once, for an epoch of few normal beats, on two folds with one seed; of a
    search with many arms, the first.
    """
    tables = tomllib.loads(space.text)
    tables["description"] = f"{REHEARSAL}{space.description}"
    section: dict[str, Any] = tables[space.kind]
    section |= {"folds": 2, "seeds": 1}
    if space.kind == "search":
        section |= {"trials": min(space.n_proposed, len(space.defaults()), _REHEARSED)}
        section |= {"scheduler": "none"}
    else:
        section |= {"draws": 1, "partitions": 1}
    _fix(tables, "epochs", 1)
    _fix(tables, "normal_beats_per_epoch", _NORMAL_BEATS)
    text = toml_text_of(tables, comments=f"A rehearsal of the space {space.name}.")
    return checked_space(tables, space.path, text)


def _read(name: str, folder: Path) -> tuple[Path, str, str]:
    """Return the file of a space, how messages call it, and its text.

    Raises:
        SpaceError: If there is no space of that name, a file's name cannot be that of a space,
            or it cannot be read as UTF-8.
    """
    path, shown = _locate(name, folder)
    try:
        return path, shown, path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        shipped = (folder / path.name).is_file()
        hint = (
            f"; for the shipped space, leave '.toml' out: --space {path.stem}" if shipped else ""
        )
        raise SpaceError(f"{shown}: there is no such file{hint}") from error
    except OSError as error:
        raise SpaceError(f"{shown}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SpaceError(f"{shown}: is not UTF-8 text: {error.reason}") from error
    except ValueError as error:
        raise SpaceError(f"{shown!r}: is no path: {error}") from error


def _locate(name: str, folder: Path) -> tuple[Path, str]:
    path = Path(name)
    if path.suffix == ".toml":
        if not toml_file.NAME.fullmatch(path.stem):
            raise SpaceError(
                f"{name}: the name of a space must be letters, digits, - and _, at most 100"
            )
        return path, name
    known = [path.stem for path in folder.glob("*.toml")]
    name = current_word(name)
    if name not in known:
        file = f" For the file: --space {name}.toml." if Path(f"{name}.toml").is_file() else ""
        raise SpaceError(f"{unknown('space', name, known)} (A file ends in .toml.){file}")
    return folder / f"{name}.toml", f"{folder.name}/{name}.toml"
