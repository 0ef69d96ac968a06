"""Imports point one way (docs/architecture.md); read from the source, not run."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[1] / "study"

BASE = set("addresses beats command config errors files keys wording".split())
_STORE = BASE | {"data", "models", "training", "statistics", "spaces", "store"}
ALLOWED = {
    "data": BASE | {"data"},
    "models": BASE | {"models"},
    "training": BASE | {"data", "models", "training"},
    "statistics": BASE | {"statistics"},
    "spaces": BASE | {"data", "models", "spaces"},
    "store": _STORE,
    "reporting": _STORE | {"reporting"},
    "tracking": _STORE | {"tracking"},
    "tuning": _STORE | {"reporting", "tracking", "tuning"},
    "console": _STORE | {"options", "reporting", "tracking", "tuning", "console"},
    "api": _STORE | {"api", "report", "reporting", "run"},
    # Its options are the only ones that have a module outside the root.
    "sealed": _STORE | {"options", "reporting", "tracking", "tuning", "sealed"},
}
"""What each package may import of `study`; command lines may import everything."""

HOMES = {
    "ray": {"tuning"},
    "optuna": {"reporting", "spaces", "store", "tuning"},
    "mlflow": {"tracking"},
    "torch": {"models", "reporting", "training", "tuning", "sealed"},
    "wfdb": {"data"},
    "matplotlib": {"reporting", "tracking"},
    "sklearn": {"statistics", "training"},
}
"""The only packages that may import each engine."""

KNOWS_OPTUNA = "spaces/optuna_space.py"
"""The only file of `spaces/` that may: a space knows no engine."""


@cache
def imports(path: Path) -> tuple[tuple[int, str], ...]:
    """Return line and dotted name of every import of a file, also those inside functions."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: relative import"
            names += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return tuple(names)


def faults(path: Path) -> Iterator[str]:
    """Yield every import of a file that points the wrong way, with file and line."""
    parts = path.relative_to(STUDY).parts
    package = parts[0] if len(parts) > 1 else ""
    command = parts[-1] == "__main__.py" or not package
    allowed = ALLOWED.get(package, set())
    for line, name in imports(path):
        words = name.split(".")
        where = f"{'/'.join(parts)}:{line}: imports {name}"
        if words[0] == "study" and len(words) > 1 and not command:
            if words[1] not in allowed and name != "study.__version__":
                yield f"{where}; {package} may import {', '.join(sorted(allowed))}"
        elif words[0] in HOMES and package not in HOMES[words[0]]:
            yield f"{where}; only {', '.join(sorted(HOMES[words[0]]))} may"
        elif words[0] == "optuna" and package == "spaces" and "/".join(parts) != KNOWS_OPTUNA:
            yield f"{where}; a space knows no engine"


def test_imports_point_one_way() -> None:
    files = sorted(STUDY.rglob("*.py"))
    assert len(files) > 30
    assert [fault for path in files for fault in faults(path)] == []


OPENERS = {"evaluate.py"}
"""The only files outside `sealed/` that may import it."""

CLOSED = (["study", "sealed"], *(["study", name.removesuffix(".py")] for name in sorted(OPENERS)))
"""What only these may import, as the first two words of a name."""

NAME_DS2 = {
    "data/catalogue.py",  # the list of its records
    "data/fetch.py",  # refuses its files among one's own
    "sealed/records.py",
    "benchmarks/statistics_checks.py",  # their names and published counts
}
"""The only files that may know which records DS2 has."""

ASK_FOR_TESTS = {"sealed/records.py"}
"""The only files that may ask one of `GIVE_TESTS` for the records of a `test`."""

GIVE_TESTS = {"database_source", "own_source"}

NAME_TESTS = {
    "data/catalogue.py",
    "data/source.py",  # gives them to those of `ASK_FOR_TESTS`
    "data/__main__.py",  # says that an absent file is no fault
    *ASK_FOR_TESTS,
}
"""The only files that may look at the `test_records` of a database."""

LOAD_CACHED = {
    "data/prepare.py",
    # What one of them wrote, under a key that no prepared beats of a study have.
    *(f"benchmarks/{name}.py" for name in ("gpu_packing", "gpu_step", "precision")),
}
"""The only files that may read prepared beats: after an opening the cache has those of DS2."""


def ways_to_ds2(path: Path, root: Path = STUDY) -> Iterator[str]:
    """Yield every way by which a file could reach DS2 without an opening, with file and line."""
    place = path.relative_to(root).as_posix()
    inside = place.startswith("sealed/") or place in OPENERS
    for line, name in imports(path):
        words = name.split(".")
        if words[:2] in CLOSED and not inside:
            yield f"{place}:{line}: imports {name}; only {', '.join(sorted(OPENERS))} may"
        if name == "study.data.catalogue.DS2" and place not in NAME_DS2:
            yield f"{place}:{line}: knows the records of DS2"
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr == "test_records":
            if place not in NAME_TESTS:
                yield f"{place}:{node.lineno}: looks at the records of a test"
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            called = node.func.id if isinstance(node.func, ast.Name) else called
            given = {keyword.arg for keyword in node.keywords}
            # None stands for ** of a mapping, which could hold anything.
            asks = called in GIVE_TESTS and given & {"test", None}
            if asks and place not in ASK_FOR_TESTS:
                yield f"{place}:{node.lineno}: asks {called} for the records of a test"
            if called == "load_cached" and place not in LOAD_CACHED:
                yield f"{place}:{node.lineno}: reads prepared beats from a file"


def file_of(module: str) -> Path:
    """Return where a module of `study` is, or would be."""
    path = STUDY.parent / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imported_by(module: str) -> set[str]:
    """Return the modules of `study` that a module imports itself."""
    # What is imported from a module is a module itself, or a name in it.
    names = {name for _, name in imports(file_of(module))}
    names |= {name.rpartition(".")[0] for name in names}
    return {name for name in names if name.startswith("study.") and file_of(name).exists()}


def reached(*start: str) -> set[str]:
    """Return these modules and all that they import, directly or by others."""
    modules: set[str] = set()
    todo = list(start)
    while todo:
        module = todo.pop()
        if module not in modules:
            modules.add(module)
            todo += imported_by(module)
    return modules


def test_ds2_is_reached_by_the_sealed_test_alone() -> None:
    root = STUDY.parent
    ways = [way for path in sorted(STUDY.rglob("*.py")) for way in ways_to_ds2(path)]
    others = sorted((root / "benchmarks").rglob("*.py"))
    assert others and ways + [way for path in others for way in ways_to_ds2(path, root)] == []


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
    ("place", "source", "fault"),
    [
        ("run.py", "def f():\n    from study.sealed import a", "2: imports study.sealed.a;"),
        ("tuning/x.py", "import study.evaluate", "1: imports study.evaluate;"),
        ("training/x.py", "from study.data.catalogue import DS2", "1: knows the records of DS2"),
        ("tuning/x.py", "d.test_records", "1: looks at the records of a test"),
        ("tuning/x.py", "database_source(a, test=True)", "1: asks database_source for the "),
        ("run.py", "import p\np.database_source(a, **b)", "2: asks database_source for the "),
        ("benchmarks/x.py", "b.load_cached(a, key)", "1: reads prepared beats from a file"),
    ],
)
def test_a_way_to_ds2_is_named(tmp_path: Path, place: str, source: str, fault: str) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_text(source)
    (named,) = ways_to_ds2(path, tmp_path)
    assert named.startswith(f"{place}:{fault}")


MODULES_A_FOLDER, LINES_A_MODULE, LINES_A_FUNCTION = 16, 400, 60

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def net_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the lines of a function without those of its docstring."""
    docstring = function.body[0] if ast.get_docstring(function) is not None else None
    inside = 0 if docstring is None else (docstring.end_lineno or 0) - docstring.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - inside


def above_limits() -> Iterator[str]:
    """Yield every folder, module and function that is too large to be read at once."""
    files = sorted(STUDY.rglob("*.py"))
    in_folder = Counter(path.parent for path in files if path.name != "__init__.py")
    for folder, n in in_folder.items():
        if n > MODULES_A_FOLDER:
            yield f"{folder.relative_to(STUDY.parent)}/ has more than {MODULES_A_FOLDER} modules"
    for path in files:
        name, source = path.relative_to(STUDY.parent), path.read_text()
        if source.count("\n") > LINES_A_MODULE:
            yield f"{name} has more than {LINES_A_MODULE} lines"
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, FUNCTIONS) and net_lines(node) > LINES_A_FUNCTION:
                yield f"{name}: {node.name}() has more than {LINES_A_FUNCTION} lines"


def test_folders_modules_and_functions_can_be_read_at_once() -> None:
    assert list(above_limits()) == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    files = [path for path in sorted(STUDY.rglob("*.py")) if path.name != "__init__.py"]
    names = [".".join(path.relative_to(STUDY.parent).with_suffix("").parts) for path in files]
    circles = {name for name in names if name in reached(*imported_by(name))}
    assert circles == set()


CALLED_OTHERWISE = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
"""What a package is called where it is declared, if not as it is imported."""


def test_what_is_imported_is_declared() -> None:
    root = STUDY.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    declared = {name for words in lists for line in words for name in re.findall(r"^[\w-]+", line)}
    files = [*STUDY.rglob("*.py"), *(root / "tests").rglob("*.py")]
    imported = {name.split(".")[0] for path in files for _, name in imports(path)}
    imported -= {"study", "tests", "benchmarks", *sys.stdlib_module_names}
    assert {CALLED_OTHERWISE.get(name, name) for name in imported} - declared == set()
