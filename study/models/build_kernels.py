"""The C++ kernels as a shared library, compiled for this machine once and stored for later."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")

FLAGS = (
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-std=c++17",
    "-shared",
    "-fPIC",
)
"""Options of the compiler. No -ffast-math: it may lose NaN, which shows that a loss diverged."""

FOR_THIS_MACHINE = (("-march=native",), ("-mcpu=native",), ())
"""Options for all instructions of this processor; the first that the compiler accepts is used."""

COMPILERS = ("c++", "g++", "clang++")

FOLDER_VARIABLE = "STUDY_KERNELS_DIR"
"""Environment variable that names the folder of the compiled library."""

LIMIT_S = 120.0
"""Longest time that a compiler may take; it needs two seconds."""


class LibraryError(RuntimeError):
    """The kernels cannot be compiled, or the library cannot be loaded."""


def load_library() -> ctypes.CDLL:
    """Load the compiled kernels; compile them where the folder has none for this machine.

    Without a folder that can be written they are compiled for this process alone.

    Raises:
        LibraryError: If they cannot be compiled or loaded.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        with suppress(OSError):
            return _from_folder(Path(folder).absolute())
    with tempfile.TemporaryDirectory() as scratch:
        try:
            return _opened(_compiled(Path(scratch)))
        except OSError as error:
            raise LibraryError(str(error)) from error


def _from_folder(folder: Path) -> ctypes.CDLL:
    """Load the library that a folder has for this machine; compile it there where it has none.

    Its name has a digest of its bytes, because loading a truncated library kills the process.
    """
    identity = _identity()
    for path in folder.glob(f"kernels-{identity}-*.so"):
        if path.name == _name(identity, path.read_bytes()):
            return _opened(path)
        path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    # Compiled elsewhere and tested first: others never see half a library, or a useless one.
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        compiled = _compiled(Path(scratch))
        library = _opened(compiled)
        compiled.replace(folder / _name(identity, compiled.read_bytes()))
    return library


def _name(identity: str, content: bytes) -> str:
    return f"kernels-{identity}-{hashlib.sha256(content).hexdigest()[:16]}.so"


def _opened(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    if not hasattr(library, "sums_around_float32"):
        raise LibraryError(f"{path.name} is a library without the kernels")
    return library


def _identity() -> str:
    """Return a digest of source, compiler and processor: what a library is compiled for."""
    # The processor too: a home folder may be shared by machines of several kinds.
    about = [SOURCE.read_text(), *FLAGS, platform.machine(), platform.processor()]
    about.append(os.environ.get("CXX", ""))
    processors = Path("/proc/cpuinfo")
    if processors.exists():
        first = processors.read_text().partition("\n\n")[0]
        about += [line for line in first.splitlines() if line.startswith(("flags", "Features"))]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _compiled(folder: Path) -> Path:
    """Compile the kernels in a folder; return the library.

    Raises:
        LibraryError: If no compiler succeeds; it quotes the last one.
    """
    target = folder / "kernels.so"
    fault = f"no C++ compiler is on the path ({', '.join(COMPILERS)}; CXX names another)"
    for compiler in _compilers():
        for machine in FOR_THIS_MACHINE:
            complaint = _complaint([*compiler, *FLAGS, *machine, "-o", str(target), str(SOURCE)])
            if complaint is None and target.exists():
                return target
            fault = f"{shlex.join(compiler)}: {complaint or 'it wrote no library'}"
    raise LibraryError(fault)


def _compilers() -> list[list[str]]:
    given = os.environ.get("CXX", "").strip()
    if not given:
        return [[name] for name in COMPILERS if shutil.which(name)]
    try:
        command = [given] if shutil.which(given) else shlex.split(given)
    except ValueError as error:  # an open quotation
        raise LibraryError(f"CXX={given}: {error}") from error
    if not command or not shutil.which(command[0]):
        raise LibraryError(f"CXX={given}: no such program")
    return [command]


def _complaint(command: list[str]) -> str | None:
    """Run a compiler; return the first error that it prints, None if it succeeds.

    Raises:
        LibraryError: If it takes too long.
    """
    # No shell; the compiler is the user's own choice.
    with subprocess.Popen(  # nosec B603
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        process_group=0,  # so that its children can be ended with it
    ) as process:
        try:
            _, messages = process.communicate(timeout=LIMIT_S)
        except BaseException as stop:  # late, or interrupted: a compiler has children
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(stop, subprocess.TimeoutExpired):
                raise LibraryError(f"{command[0]}: not done after {LIMIT_S:.0f} s") from stop
            raise
    if not process.returncode:
        return None
    lines = [line.strip() for line in messages.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[0]
