"""Plug-ins: files with fusions and backbones that the package does not have.

A plug-in is one Python file with a table `FUSIONS` or `BACKBONES`, as `study.models.fusion` and
`study.models.backbone` have them. Its text travels: to the study's folder, to the workers of Ray,
to a trained model. It is code, and runs where it is loaded.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.abc import ExecutionLoader
from importlib.metadata import entry_points
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any

from study.config import PARAMETERS, ModelConfig, TrialConfig
from study.errors import ConfigError, PluginError, listed

GROUP = "ecg_fusion.plugins"
"""Entry points of installed packages that name a module which is a plug-in."""

_MODULE = "ecg_fusion_plugin_"
"""Prefix of the names under which plug-ins are imported."""

LOADED: dict[str, Plugin] = {}
"""The plug-ins that this process has loaded, by name."""

ORIGIN: dict[tuple[str, str], Plugin] = {}
"""The plug-in that each fusion and each backbone is from, by table and name."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """A plug-in: the name of its file, without suffix, and its text."""

    name: str
    text: str

    @classmethod
    def at(cls, path: Path) -> Plugin:
        """Read a plug-in's file, without running it.

        Raises:
            PluginError: If it cannot be read, or its name cannot be one.
        """
        if path.suffix != ".py" or not path.stem.isidentifier():
            raise PluginError(f"{path}: a plug-in is a file NAME.py, of letters, digits and _")
        try:
            return cls(path.stem, path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", error)
            raise PluginError(f"{path}: cannot be read: {reason}") from error

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of its text."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.py"

    def load(self) -> None:
        """Run the file, and add what it has to the tables; nothing where this was done before.

        Raises:
            PluginError: If it fails, another file of this name is loaded, or what it has cannot be
                used; all faults together.
        """
        known = LOADED.get(self.name)
        if known == self:
            return
        if known is not None:
            raise PluginError(
                f"plug-in {self.file}: another file of this name is loaded (digest "
                f"{known.digest}, this one {self.digest}); give one of them another name, or "
                "start a new process"
            )
        tables = _tables_of(self)
        _check(self, tables)
        for table, classes in tables.items():
            _known(table).update(classes)
            ORIGIN.update({(table, name): self for name in classes})
        LOADED[self.name] = self


class _Text(ExecutionLoader):
    """Imports a module from a text; a traceback shows its lines."""

    def __init__(self, plugin: Plugin) -> None:
        self._plugin = plugin

    def get_source(self, fullname: str) -> str:
        return self._plugin.text

    def get_filename(self, fullname: str) -> str:
        return f"<plug-in {self._plugin.file}>"


def _tables_of(plugin: Plugin) -> dict[str, dict[str, Any]]:
    """Run a plug-in; return its tables, of fusions and of backbones."""
    spec = importlib.util.spec_from_loader(_MODULE + plugin.name, _Text(plugin))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    # Whatever the file raises: it is another's code. `sys.exit` would end the command in silence.
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        where = _line_of(error, plugin)
        raise PluginError(
            f"plug-in {plugin.file}: fails{where}: {type(error).__name__}: {error}"
        ) from error
    return {table: _table(module, table) for table in ("FUSIONS", "BACKBONES")}


def _table(module: ModuleType, name: str) -> dict[str, Any]:
    table = getattr(module, name, {})
    return dict(table) if isinstance(table, dict) else {str(table): table}


def _line_of(error: BaseException, plugin: Plugin) -> str:
    """Return ", line N" of the plug-in's line that failed, or an empty string."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == f"<plug-in {plugin.file}>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" in line {line}" if line else ""


def _check(plugin: Plugin, tables: dict[str, dict[str, Any]]) -> None:
    """Refuse tables that cannot be used, and add the options of their classes."""
    # Imported here: they bring PyTorch, which reading a file does without.
    from study.models.backbone import Backbone
    from study.models.declared import declare
    from study.models.fusion_base import Fusion

    faults, good = [], []
    for table, base in (("FUSIONS", Fusion), ("BACKBONES", Backbone)):
        for name, class_ in tables[table].items():
            if not (isinstance(class_, type) and issubclass(class_, base)) or isabstract(class_):
                faults.append(f"{table}: {name!r} must be a class of {base.__name__}: {class_!r}")
            elif not isinstance(name, str) or not name.isidentifier():
                faults.append(f"{table}: a name is letters, digits and _, got {name!r}")
            elif name in _known(table):
                faults.append(f"{table}: there is a '{name}' already; choose another name")
            else:
                good.append(class_)
    if not any(tables.values()):
        faults.append("has no table FUSIONS = {...} or BACKBONES = {...} with a class")
    if not faults:
        try:
            declare(good)
        except ConfigError as error:
            faults.append(str(error))
    if faults:
        raise PluginError(listed(f"plug-in {plugin.file}", faults))


def _known(table: str) -> dict[str, Any]:
    """Return the table of all fusions, or of all backbones."""
    from study.models.backbone import BACKBONES
    from study.models.fusion import FUSIONS

    return FUSIONS if table == "FUSIONS" else BACKBONES


def load_all(given: Iterable[Plugin] = ()) -> None:
    """Load plug-ins, then those of installed packages whose names are still free.

    Raises:
        PluginError: If one cannot be used.
    """
    for plugin in given:
        plugin.load()
    for plugin in _installed():
        plugin.load()


def require(needed: Mapping[str, str], files: Iterable[Path]) -> None:
    """Load the plug-ins that are needed, by name and digest, from files that may be theirs.

    Raises:
        PluginError: If one is not among them, or cannot be used.
    """
    files = list(files)
    for name, digest in needed.items():
        if is_loaded(name, digest):
            continue
        found = (Plugin.at(file) for file in files if file.name == f"{name}.py")
        plugin = next((plugin for plugin in found if plugin.digest == digest), None)
        if plugin is None:
            raise PluginError(
                f"plug-in {name}.py (digest {digest}) is needed and was not found; give it by "
                "--plugin"
            )
        plugin.load()


def is_loaded(name: str, digest: str) -> bool:
    """Whether the plug-in of this name and digest is loaded."""
    return name in LOADED and LOADED[name].digest == digest


def _installed() -> list[Plugin]:
    """Return the plug-ins of installed packages, without running them."""
    plugins = []
    for entry in entry_points(group=GROUP):
        try:
            spec = importlib.util.find_spec(entry.module)
        except (ImportError, ValueError) as error:
            raise PluginError(f"entry point {entry.name} of {GROUP}: {error}") from error
        if spec is None or spec.origin is None:
            raise PluginError(f"entry point {entry.name} of {GROUP}: no module {entry.module}")
        if entry.name not in LOADED:  # of a study that goes on, its own copy counts
            plugins.append(Plugin(entry.name, Plugin.at(Path(spec.origin)).text))
    return plugins


def configuration_of(values: Mapping[str, Any]) -> TrialConfig:
    """Build a stored configuration, which may have options that only one class declares.

    Raises:
        ConfigError: If a name is unknown or a value is not allowed.
    """
    if values.keys() - PARAMETERS.keys():
        _known("FUSIONS")  # importing the classes makes their options known, and takes seconds
    return TrialConfig.from_flat(values)


def classes_of(plugin: Plugin) -> list[tuple[str, str]]:
    """Return table and name of each fusion and backbone of a loaded plug-in."""
    return [part for part, origin in ORIGIN.items() if origin == plugin]


def used_by(model: ModelConfig) -> tuple[Plugin, ...]:
    """Return the plug-ins that a network's fusion and backbone are from."""
    parts = [("FUSIONS", model.fusion)]
    if _known("FUSIONS")[model.fusion].uses_ecg:
        parts.append(("BACKBONES", model.backbone))
    return tuple(dict.fromkeys(ORIGIN[part] for part in parts if part in ORIGIN))
