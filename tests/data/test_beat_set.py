"""Cache files: what is stored comes back, and nothing else is ever trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.data.beat_set import (
    CACHE_VARIABLE,
    BeatSet,
    Reliance,
    _digest,
    default_cache_dir,
    load_cached,
    store_cached,
)
from tests.builders import assert_same_beats, npz

KEY = "0123456789ab"


@pytest.fixture
def small() -> BeatSet:
    """Two records of two beats each."""
    rng = np.random.default_rng(0)
    return BeatSet(
        dataset="DS1",
        source="synthetic",
        segmentation="daeac",
        resampling="linear",
        record_names=("a", "p/b"),
        record=np.array([0, 0, 1, 1]),
        r_peak_sample=np.array([500, 900, 450, 800]),
        label=np.array([0, 2, 0, 1]),
        ecg=rng.standard_normal((4, 128)).astype(np.float32),
        rr={"causal": rng.standard_normal((4, 6)).astype(np.float32)},
        reliance=Reliance(
            beats=np.array([1, 3]),
            donors=np.array([[0, 2], [1, 3]]),
            windows=rng.standard_normal((2, 2, 128)).astype(np.float32),
        ),
        dropped={"a": {"class Q": 3}, "p/b": {}},
        fingerprint="f" * 12,
    )


def test_what_is_stored_comes_back(tmp_path: Path, small: BeatSet) -> None:
    path = tmp_path / "deep" / "x.beats"
    store_cached(path, KEY, small)
    loaded = load_cached(path, KEY)
    assert_same_beats(loaded, small)
    assert loaded is not None
    assert loaded.ecg.dtype == np.float32
    assert loaded.ecg.flags.writeable
    assert loaded.record_names == ("a", "p/b")
    assert [file.name for file in path.parent.iterdir()] == ["x.beats"]


def test_reliance_without_windows_comes_back(tmp_path: Path, small: BeatSet) -> None:
    fixed = replace(small, reliance=replace(small.reliance, windows=None))
    store_cached(tmp_path / "x.beats", KEY, fixed)
    assert_same_beats(load_cached(tmp_path / "x.beats", KEY), fixed)


def test_absent_file_is_no_fault(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load_cached(tmp_path / "x.beats", KEY) is None
    assert not caplog.records


def _flip_a_bit(content: bytes) -> bytes:
    at = len(content) // 2
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def _whole(content: bytes) -> bytes:
    return _digest(content) + b"\n" + content


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "truncated or altered, preparing the beats anew"),
        (lambda content: content[:-1], "truncated or altered, preparing the beats anew"),
        (lambda content: content[:40], "truncated or altered, preparing the beats anew"),
        (lambda content: content + b"x", "truncated or altered, preparing the beats anew"),
        (_flip_a_bit, "truncated or altered, preparing the beats anew"),
        (lambda content: b"no beats at all\n", "truncated or altered, preparing the beats anew"),
        (lambda _: _whole(b"PK no archive"), "holds other content than its name says"),
        (lambda _: _whole(npz(x=np.zeros(3))), "holds other content than its name says"),
        (lambda _: _whole(npz(meta=np.zeros(3, np.uint8))), "holds other content"),
    ],
)
def test_damaged_or_foreign_file_is_not_trusted(
    tmp_path: Path,
    small: BeatSet,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    path = tmp_path / "x.beats"
    store_cached(path, KEY, small)
    path.write_bytes(damage(path.read_bytes()))
    assert load_cached(path, KEY) is None
    assert f"{path}: {message}" in caplog.text


def test_file_stored_under_another_key_is_not_trusted(
    tmp_path: Path, small: BeatSet, caplog: pytest.LogCaptureFixture
) -> None:
    store_cached(tmp_path / "x.beats", "another", small)
    assert load_cached(tmp_path / "x.beats", KEY) is None
    assert "holds other content than its name says, preparing anew" in caplog.text


def test_storing_replaces_a_damaged_file(tmp_path: Path, small: BeatSet) -> None:
    path = tmp_path / "x.beats"
    path.write_bytes(b"damaged")
    store_cached(path, KEY, small)
    assert_same_beats(load_cached(path, KEY), small)


def test_folder_that_cannot_be_written_costs_a_warning_only(
    tmp_path: Path, small: BeatSet, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    with caplog.at_level(logging.WARNING):
        store_cached(tmp_path / "file" / "x.beats", KEY, small)
    assert "the beats are not cached" in caplog.text


def test_unreadable_path_costs_a_warning_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert load_cached(tmp_path, KEY) is None
    assert "cannot be read, preparing the beats anew" in caplog.text


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert default_cache_dir(tmp_path) == tmp_path / ".cache" / "beats"
    monkeypatch.setenv(CACHE_VARIABLE, "/elsewhere")
    assert default_cache_dir(tmp_path) == Path("/elsewhere")
