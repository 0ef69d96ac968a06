"""Writes a space as TOML; `study.spaces.toml_file` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_text_of(
    tables: Mapping[str, Any], *, comments: str = "", remarks: Mapping[str, str] | None = None
) -> str:
    """Return a space as TOML.

    Tables are as the file gives them when it is read. Comments stand above everything, a remark
    above the arm of its name.
    """
    lines = [f"# {line}".rstrip() for line in comments.splitlines()]
    lines += _assignments({name: v for name, v in tables.items() if isinstance(v, str)})
    for name, table in tables.items():
        if isinstance(table, Mapping):
            own = _assignments(table)
            lines += ["", f"[{name}]", *own] if own else []
            for inner, content in table.items():
                if isinstance(content, Mapping):
                    lines += ["", f"[{name}.{inner}]"]
                    lines += [f"{key} = {_value(value)}" for key, value in content.items()]
    for name in ("arms", "exclude"):
        for entry in tables.get(name, ()):
            remark = (remarks or {}).get(entry.get("name", ""))
            lines += ["", *([f"# {remark}"] if remark else []), f"[[{name}]]"]
            lines += _assignments(entry)
    return "\n".join(lines) + "\n"


def _assignments(table: Mapping[str, Any]) -> list[str]:
    return [f"{n} = {_value(v)}" for n, v in table.items() if not isinstance(v, Mapping)]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        items = ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    # What JSON writes of text and finite numbers is TOML.
    return json.dumps(value)
