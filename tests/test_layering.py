"""Imports point one way (README, "How it is built"); read from the source, not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "study"

BASE = {"addresses", "archive", "config", "errors", "files", "interrupts", "keys", "wording"}
_STORE = BASE | {"data", "models", "training", "statistics", "spaces", "store"}
ALLOWED = {
    "data": BASE | {"data"},
    "models": BASE | {"models"},
    "training": BASE | {"data", "models", "training"},
    "statistics": BASE | {"statistics"},
    "spaces": BASE | {"data", "models", "training", "spaces"},
    "store": _STORE,
    "reporting": _STORE | {"reporting"},
    "tracking": _STORE | {"tracking"},
    "tuning": _STORE | {"reporting", "tracking", "tuning"},
    "sealed": _STORE | {"reporting", "tracking", "tuning", "sealed"},
}
"""What each package may import of `study`; command lines may import everything."""

BESIDES = {
    # Both name the type of what they are given.
    "reporting/explanations.py": {"tuning"},
    "reporting/load.py": {"tuning"},
    "store/checks.py": {"tracking"},
}
"""What single files may import besides."""

HOMES = {
    "ray": {"tuning"},
    "optuna": {"reporting", "spaces", "store", "tuning"},
    "mlflow": {"tracking"},
    "torch": {"models", "reporting", "training", "tuning", "sealed"},
    "wfdb": {"data"},
    "matplotlib": {"reporting"},
    "sklearn": {"reporting", "store"},
}
"""The only packages that may import each engine."""

ENGINE_FREE = (
    "spaces/space.py",
    "spaces/toml_file.py",
    "spaces/draws.py",
    "spaces/parameter.py",
    "spaces/checks.py",
)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import of a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def faults(path: Path, root: Path = STUDY) -> Iterator[str]:
    """Yield every import of a file that points the wrong way, with file and line."""
    parts = path.relative_to(root).parts
    package = parts[0] if len(parts) > 1 else ""
    command = parts[-1] == "__main__.py" or not package
    allowed = ALLOWED.get(package, set()) | BESIDES.get("/".join(parts), set())
    for line, name in imports(path):
        words = name.split(".")
        where = f"{'/'.join(parts)}:{line}: imports {name}"
        if words[0] == "study" and len(words) > 1 and not command:
            if words[1] not in allowed and name != "study.__version__":
                yield f"{where}; {package} may import {', '.join(sorted(allowed))}"
        elif words[0] in HOMES and package not in HOMES[words[0]]:
            yield f"{where}; only {', '.join(sorted(HOMES[words[0]]))} may"
        elif "/".join(parts) in ENGINE_FREE and words[0] in ("ray", "optuna"):
            yield f"{where}; a space knows no engine"


def test_imports_point_one_way() -> None:
    files = sorted(STUDY.rglob("*.py"))
    assert len(files) > 30
    assert [fault for path in files for fault in faults(path)] == []


@pytest.mark.parametrize(
    ("place", "source", "fault"),
    [
        (
            "data/x.py",
            "import torch",
            "data/x.py:1: imports torch; only models, reporting, sealed, training, tuning may",
        ),
        (
            "models/x.py",
            "\nfrom study.data import rr",
            "models/x.py:2: imports study.data.rr; models may import "
            + ", ".join(sorted(ALLOWED["models"])),
        ),
        (
            "spaces/space.py",
            "def f():\n    import optuna",
            "spaces/space.py:2: imports optuna; a space knows no engine",
        ),
        ("errors.py", "import mlflow", "errors.py:1: imports mlflow; only tracking may"),
    ],
)
def test_a_wrong_import_is_named(tmp_path: Path, place: str, source: str, fault: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert list(faults(path, tmp_path)) == [fault]


def test_engine_free_modules_exist() -> None:
    assert [name for name in ENGINE_FREE if not (STUDY / name).exists()] == []


OPENERS = {"evaluate.py", "evaluate_models.py"}
"""The only files outside `sealed/` that may import it."""

CLOSED = (["study", "sealed"], *(["study", name.removesuffix(".py")] for name in sorted(OPENERS)))
"""What only these may import, as the first two words of a name."""

NAME_DS2 = {
    "data/records.py",  # the list of its records
    "data/prepare.py",  # reads it where it is asked for by `dataset`
    "data/split_file.py",  # refuses its files among one's own
    "data/overview.py",  # says that an absent file is no fault
    "sealed/records.py",
}
"""The only files that may know which records DS2 has."""

ASK_FOR_DS2 = {"data/prepare.py", "sealed/records.py"}
"""The only files that may give `prepare` or `prepare_all` a `dataset`."""


def ways_to_ds2(path: Path, root: Path = STUDY) -> Iterator[str]:
    """Yield every way by which a file could reach DS2 without an opening, with file and line."""
    place = path.relative_to(root).as_posix()
    inside = place.startswith("sealed/") or place in OPENERS
    for line, name in imports(path):
        words = name.split(".")
        if words[:2] in CLOSED and not inside:
            yield f"{place}:{line}: imports {name}; only {', '.join(sorted(OPENERS))} may"
        if name == "study.data.records.DS2" and place not in NAME_DS2:
            yield f"{place}:{line}: knows the records of DS2"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and place not in ASK_FOR_DS2:
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            given = {keyword.arg for keyword in node.keywords}
            # None stands for ** of a mapping, which could hold anything.
            if called in ("prepare", "prepare_all") and given & {"dataset", None}:
                yield f"{place}:{node.lineno}: asks {called} for a data set"


def reached(name: str) -> set[str]:
    """Return all modules of `study` that a module imports, directly or by others."""
    found: set[str] = set()
    todo = [name]
    while todo:
        module = todo.pop()
        path = STUDY.parent / Path(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in found or not path.exists():
            continue
        found.add(module)
        for _, imported in imports(path):
            # What is imported from a module is a module itself, or a name in it.
            todo += [imported, imported.rpartition(".")[0]]
    return {module for module in found if module.startswith("study.")}


def test_ds2_is_reached_by_the_sealed_test_alone() -> None:
    files = sorted(STUDY.rglob("*.py"))
    assert [way for path in files for way in ways_to_ds2(path)] == []


@pytest.mark.parametrize(
    "start",
    [f"study.{path.stem}" for path in sorted(STUDY.glob("*.py")) if path.name not in OPENERS]
    + [f"study.tuning.{path.stem}" for path in sorted((STUDY / "tuning").glob("*.py"))],
)
def test_no_study_can_open_ds2(start: str) -> None:
    opens = {".".join(words) for words in CLOSED}
    assert [m for m in reached(start) if m in opens or m.startswith("study.sealed.")] == []


def test_what_is_reached_is_found() -> None:
    assert {"study.sealed.records", "study.data.prepare"} <= reached("study.evaluate")
    assert "study.tuning.session" in reached("study.run"), "imports within functions count"


@pytest.mark.parametrize(
    ("place", "source", "way"),
    [
        (
            "run.py",
            "def f():\n    from study.sealed import records",
            "run.py:2: imports study.sealed.records; only evaluate.py, evaluate_models.py may",
        ),
        (
            "tuning/x.py",
            "import study.evaluate",
            "tuning/x.py:1: imports study.evaluate; only evaluate.py, evaluate_models.py may",
        ),
        (
            "training/x.py",
            "from study.data.records import DS1, DS2",
            "training/x.py:1: knows the records of DS2",
        ),
        (
            "tuning/x.py",
            "prepare(source, cut, dataset='DS2')",
            "tuning/x.py:1: asks prepare for a data set",
        ),
        (
            "run.py",
            "import study.data.prepare as p\np.prepare_all(source, cuts, **options)",
            "run.py:2: asks prepare_all for a data set",
        ),
    ],
)
def test_a_way_to_ds2_is_named(tmp_path: Path, place: str, source: str, way: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    assert list(ways_to_ds2(path, tmp_path)) == [way]
