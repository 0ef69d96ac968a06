"""Cache files: what is stored comes back, and nothing else is ever trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from study.data.beat_set import BeatSet, _digest, load_cached, store_cached
from tests.builders import npz

KEY = "0123456789ab"


def _flip_a_bit(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _whole(content: bytes) -> bytes:
    return _digest(content) + b"\n" + content


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content + b"x",
        _flip_a_bit,
        lambda _: _whole(b"PK no archive"),
        lambda _: _whole(npz(x=np.zeros(3))),
        lambda _: _whole(npz(meta=np.zeros(3, np.uint8))),
    ],
)
def test_damaged_or_foreign_file_is_not_trusted(
    tmp_path: Path,
    small_beats: BeatSet,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
) -> None:
    path = tmp_path / "x.beats"
    store_cached(path, KEY, small_beats)
    path.write_bytes(damage(path.read_bytes()))
    assert load_cached(path, KEY) is None
    assert f"{path}: cannot be used, preparing the beats anew: " in caplog.text


def test_what_cannot_be_used_costs_a_warning_only(
    tmp_path: Path, small_beats: BeatSet, caplog: pytest.LogCaptureFixture
) -> None:
    store_cached(tmp_path / "x.beats", "another", small_beats)
    assert load_cached(tmp_path / "x.beats", KEY) is None
    assert "its beats do not match its name" in caplog.text
    assert load_cached(tmp_path, KEY) is None
    assert "Is a directory" in caplog.text
    store_cached(tmp_path / "x.beats" / "y.beats", KEY, small_beats)
    assert "the beats are not cached" in caplog.text
