"""Where the kernels in C++ are compiled, kept and loaded; what is said where they cannot be."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.models import build_kernels
from study.models.build_kernels import FOLDER_VARIABLE, LibraryError, load_library
from tests.builders import refused


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder where this test's kernels are kept; it is not there yet."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "kernels"))
    monkeypatch.delenv("CXX", raising=False)
    return tmp_path / "kernels"


@pytest.fixture
def whole(folder: Path) -> Path:
    load_library()
    (library,) = folder.iterdir()
    return library


def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> Path:
    """Write a compiler of one's own and name it by CXX."""
    path = folder / "own compiler"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("CXX", str(path))
    return path


def has_kernels(library: ctypes.CDLL) -> bool:
    return hasattr(library, "tanh_backward_bfloat16")


def test_what_was_compiled_is_taken_again(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = whole.stat().st_mtime_ns
    monkeypatch.setattr(build_kernels, "COMPILERS", ())
    assert has_kernels(load_library())
    assert whole.stat().st_mtime_ns == made


def test_a_library_that_is_damaged_is_compiled_again(whole: Path) -> None:
    """Half of it in a process of its own: to load half a library ends it by a signal."""
    good = whole.read_bytes()
    # Another file: this process has loaded the first, and would end by a signal too.
    whole.unlink()
    whole.write_bytes(good[: len(good) // 2])
    code = "from study.models.build_kernels import load_library; load_library()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    (library,) = whole.parent.iterdir()
    again = library.read_bytes()
    assert library.name == build_kernels._name(build_kernels._identity(), again)
    assert len(again) > len(good) / 2
    library.write_bytes(again[:9000] + bytes(3000) + again[12000:])
    assert has_kernels(load_library())
    (library,) = whole.parent.iterdir()
    assert bytes(3000) != library.read_bytes()[9000:12000]


def test_own_compiler(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that knows no processor of its own is asked to compile for any."""
    script = 'case "$*" in *=native*) echo unknown processor >&2; exit 1;; esac\nexec c++ -O1 "$@"'
    compiler(tmp_path, monkeypatch, script)
    assert has_kernels(load_library())
    assert len(list(whole.parent.iterdir())) == 2


@pytest.mark.parametrize("named", ["a file", "below a file", "nothing"])
def test_unkept_it_is_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    folder.write_text("in the way")
    if named != "a file":
        below = folder / "kernels"
        monkeypatch.setenv(FOLDER_VARIABLE, str(below) if named == "below a file" else "")
    assert has_kernels(load_library())
    assert folder.read_text() == "in the way"
    assert len(list(folder.parent.iterdir())) == 1


_WRITE = 'while [ "$1" != -o ]; do shift; done\n'


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo one note >&2; echo 'fatal error: no memory' >&2; exit 1", "fatal error: no memory"),
        ("printf 'Fehler: f\\344llt aus\\n' >&2; exit 1", "Fehler: f\ufffdllt aus"),
        (_WRITE + 'echo garbage > "$2"', "too short|invalid ELF"),
        (
            _WRITE + 'echo "int other;" | c++ -x c++ -shared -fPIC -o "$2" -',
            "kernels.so is a library without the kernels",
        ),
    ],
)
def test_a_compiler_that_fails_is_named_and_what_it_wrote_is_tried_before_it_is_kept(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    own = compiler(tmp_path, monkeypatch, script)
    with pytest.raises(LibraryError, match=said) as caught:
        load_library()
    assert str(caught.value).startswith(f"'{own}': ") is not script.startswith(_WRITE)
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("", "no C++ compiler is on the path (c++, g++, clang++; CXX names another)"),
        ("no-such-compiler -O2", "CXX=no-such-compiler -O2: no such program"),
        ("'g++", "CXX='g++: No closing quotation"),
    ],
)
def test_without_a_compiler_it_says_which_are_looked_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, message: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", named)
    assert refused(LibraryError, load_library) == message


def test_a_hanging_compiler(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler(tmp_path, monkeypatch, f"sleep 600 & echo $! > '{tmp_path}/child'; wait")
    monkeypatch.setattr(build_kernels, "LIMIT_S", 1.0)
    with pytest.raises(LibraryError, match="not done after 1 s"):
        load_library()
    child = Path("/proc") / (tmp_path / "child").read_text().strip()
    deadline = time.monotonic() + 10
    while child.exists() and "(zombie)" not in (child / "status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
