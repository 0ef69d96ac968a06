"""The C++ kernels as a shared library, compiled for this machine when first needed and kept."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
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
"""None of them lets a NaN be taken for a number: a training that diverges has to be seen."""

FOR_THIS_MACHINE = (("-march=native",), ("-mcpu=native",), ())
"""What compilers call the processor that they run on; the first that they take is used."""

COMPILERS = ("c++", "g++", "clang++")

CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Names the folder where compiled code is kept, PyTorch's and this."""


class LibraryError(RuntimeError):
    """The kernels cannot be compiled, or what was compiled cannot be loaded."""


def load_library() -> ctypes.CDLL:
    """Load the compiled kernels; compile them where the cache has none for this machine.

    Raises:
        LibraryError: If there is none, and none can be made.
    """
    kept = os.environ.get(CACHE_VARIABLE)
    if kept is None:
        with tempfile.TemporaryDirectory() as folder:
            return _loaded(_compiled(Path(folder) / "kernels.so"))
    path = Path(kept) / f"kernels-{_identity()}.so"
    try:
        return ctypes.CDLL(str(path))
    except OSError:  # absent, damaged, or of a machine that had the same name
        return _loaded(_compiled(path))


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise LibraryError(str(error)) from error


def _identity() -> str:
    """Return what tells this source and this processor from others."""
    about = [SOURCE.read_text(), *FLAGS, platform.machine(), platform.processor()]
    processors = Path("/proc/cpuinfo")
    if processors.exists():
        first = processors.read_text().partition("\n\n")[0]
        about += [line for line in first.splitlines() if line.startswith(("flags", "Features"))]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()[:16]


def _compiled(target: Path) -> Path:
    """Compile the kernels into a file, whole or not at all."""
    given = os.environ.get("CXX", "").split()
    compilers = [given] if given else [[name] for name in COMPILERS if shutil.which(name)]
    said = "no C++ compiler is on the path"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            made = Path(folder) / target.name
            for compiler in compilers:
                for machine in FOR_THIS_MACHINE:
                    command = [*compiler, *FLAGS, *machine, "-o", str(made), str(SOURCE)]
                    # No shell; the compiler is the user's own choice.
                    done = subprocess.run(  # nosec B603
                        command, capture_output=True, text=True
                    )
                    if not done.returncode:
                        made.replace(target)
                        return target
                    complaint = done.stderr.strip().partition("\n")[0] or "it said nothing"
                    said = f"{compiler[0]}: {complaint}"
    except OSError as error:
        said = str(error)
    raise LibraryError(said)
