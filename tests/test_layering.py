"""Imports point one way (README, "How it is built"); read from the source, not run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "study"

BASE = {"config", "errors", "keys"}
ALLOWED = {
    "data": BASE | {"data"},
    "models": BASE | {"models"},
    "training": BASE | {"data", "models", "training"},
    "tracking": BASE | {"tracking"},
    "reporting": BASE | {"reporting"},
    "tuning": BASE | {"data", "models", "training", "tracking", "reporting", "tuning"},
}
"""What each package may import of `study`; command lines may import everything."""

HOMES = {
    "ray": {"tuning"},
    "optuna": {"tuning"},
    "mlflow": {"tracking"},
    "torch": {"models", "training", "tuning"},
    "wfdb": {"data"},
    "matplotlib": {"reporting"},
    "sklearn": {"tuning"},
}
"""The only packages that may import each engine."""

ENGINE_FREE = (
    "tuning/space.py",
    "tuning/space_file.py",
    "tuning/space_draw.py",
    "tuning/space_params.py",
    "tuning/space_check.py",
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
    for line, name in imports(path):
        words = name.split(".")
        where = f"{'/'.join(parts)}:{line}: imports {name}"
        if words[0] == "study" and len(words) > 1 and not command:
            if words[1] not in ALLOWED[package] and name != "study.__version__":
                yield f"{where}; {package} may import {', '.join(sorted(ALLOWED[package]))}"
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
            "data/x.py:1: imports torch; only models, training, tuning may",
        ),
        (
            "models/x.py",
            "\nfrom study.data import rr",
            "models/x.py:2: imports study.data.rr; models may import config, errors, keys, models",
        ),
        (
            "tuning/space.py",
            "def f():\n    import optuna",
            "tuning/space.py:2: imports optuna; a space knows no engine",
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
