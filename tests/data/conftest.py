"""Fixtures of the tests of records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from study.data.synthetic import write_records


@pytest.fixture
def _short_synthetic_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic records of half a minute where a study would have five."""

    def write_short(folder: Path, **options: Any) -> dict[str, str]:
        return write_records(folder, **(options | {"duration_s": 30}))

    monkeypatch.setattr("study.data.source.write_records", write_short)
