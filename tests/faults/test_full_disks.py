"""A disk that is full while a study writes: the error names the path, and nothing is lost.

The disk is a real one, in memory, that only the study sees; the second start has a larger one.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.command import Ended
from tests.studies import Studies

pytestmark = pytest.mark.faults

# The mount is gone when the shell ends; what it held is copied out for the audit.
SCRIPT = """
set -u
mkdir -p "$DISK" && mount -t tmpfs -o size="$SIZE" tmpfs "$DISK"
"$@" >first.out 2>first.err; echo $? >first.code
mount -o remount,size=200m "$DISK"
find "$DISK" -name '*.part*' >halves
"$@" --resume >second.out 2>second.err; echo $? >second.code
cp -a "$DISK" "$DISK.kept"
umount "$DISK" && rmdir "$DISK" && mv "$DISK.kept" "$DISK"
"""

MAY_MOUNT = ["unshare", "--mount", "--map-root-user", "--user"]


@pytest.fixture(scope="module", autouse=True)
def _mounts() -> None:
    """Linux lets a user mount a disk of his own, unless the machine forbids it."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here: a small disk cannot be mounted")
    tried = subprocess.run([*MAY_MOUNT, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=False)
    if tried.returncode:
        pytest.skip("this machine lets nobody mount: there is no small disk")


def twice(studies: Studies, name: str, disk: str, size: str, *more: str) -> tuple[Ended, Ended]:
    """Run a study whose files below a folder have so much room, then again with enough."""
    words = [*studies.program, *studies.words("fast", name, *more)]
    subprocess.run(
        [*MAY_MOUNT, "env", f"DISK={disk}", f"SIZE={size}", "sh", "-c", SCRIPT, "sh", *words],
        cwd=studies.folder,
        check=True,
        timeout=240,
    )

    def ended(which: str) -> Ended:
        code, out, err = (studies.folder / f"{which}.{what}" for what in ("code", "out", "err"))
        return Ended(int(code.read_text()), out.read_text(), err.read_text())

    first, second = ended("first"), ended("second").succeeded()
    assert "Traceback" not in first.err, first
    assert (studies.folder / "halves").read_text() == "", "nothing half-written stays"
    return first, second


def test_where_checkpoints_do_not_fit(studies: Studies) -> None:
    first, _ = twice(studies, "small-store", "store", "100k", "--storage", "store")
    assert first.code == 2, first
    assert f"stopped: {studies.folder}/store/small-store/" in first.out
    assert "cannot be written (No space left on device); it takes " in first.out
    assert "trial   0 retried  " in first.err
    assert len(studies.outcomes("small-store")) == 4


def test_where_the_study_itself_does_not_fit(studies: Studies) -> None:
    first, _ = twice(studies, "small-study", "studies/small-study", "700k")
    assert first.code == 2, first
    assert "No space left on device" in first.err or "disk is full" in first.err
    assert "small-study" in first.err
    assert len(studies.audit("small-study")) == 4


def test_where_the_tracker_does_not_fit(studies: Studies) -> None:
    uri = f"sqlite:///{studies.folder}/tracker/mlflow.db"
    first, second = twice(
        studies, "small-tracker", "tracker", "1200k", "--tracking-uri", uri, "--trials", "2"
    )
    assert first.code == 0, first
    assert " runs may be incomplete in MLflow" in first.out
    assert "MLflow was brought up to date for " in second.out


def test_where_the_cache_does_not_fit(studies: Studies, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDY_CACHE_DIR", str(studies.folder / "cache"))
    first, _ = twice(studies, "small-cache", "cache", "20k", "--trials", "1")
    assert first.code == 0, first
    assert "cannot be written (" in first.err and "the beats are not cached" in first.err
