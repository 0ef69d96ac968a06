"""The machine that trials run on, from the options of `study.run` and `study.evaluate`.

`provenance` is what the tracker is told of it: commit, versions and device.
"""

from __future__ import annotations

import os
import platform
import subprocess
from argparse import Namespace
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Self

from study import __version__
from study.data.beat_set import default_cache_dir
from study.models.build_kernels import FOLDER_VARIABLE
from study.training.device import resolve_device
from study.training.packs import training_bytes
from study.tuning.resources import Demand, plan_resources
from study.tuning.setup import Setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """This machine, or a cluster."""

    device: str  # what trials train on
    address: str | None  # Ray cluster; None is this machine
    concurrency: int | None  # trials at once; None is as many as fit
    gpus_per_trial: float | None  # share of a GPU; None derives it from a trial's memory
    cache_dir: Path  # where prepared beats are kept

    @classmethod
    def of(cls, args: Namespace, workspace: Path) -> Self:
        """Read the options, and set the folder of compiled kernels for this process and workers.

        Raises:
            UsageError: If the device is not there.
        """
        cache_dir = default_cache_dir(workspace)
        os.environ.setdefault(FOLDER_VARIABLE, str(cache_dir / "kernels"))
        return cls(
            # On a cluster the workers' devices count, not this machine's.
            device=args.device if args.address else resolve_device(args.device).type,
            address=args.address,
            concurrency=args.concurrency,
            gpus_per_trial=getattr(args, "gpus_per_trial", None),
            cache_dir=cache_dir,
        )

    def reach(self) -> None:
        """Check that the cluster answers, if trials are to run on one.

        Raises:
            StudyStateError: If it does not.
        """
        if self.address:
            # Imported here: a study on this machine needs no Ray yet.
            from study.tuning.ray_session import reachable

            reachable(self.address)

    def demand(self, setup: Setup, *, shared_storage: bool) -> Demand:
        """Return the resources that each trial of a study should get."""
        plan, job = setup.plan, setup.job
        return Demand(
            device=job.device,
            concurrency=self.concurrency,
            gpus_per_trial=self.gpus_per_trial,
            trial_gpu_bytes=training_bytes(
                plan.members,
                setup.space.largest("batch_size"),
                setup.space.largest("backbone_width"),
                job.nbytes,
            ),
            shared_storage=shared_storage,
        )

    def room_for(self, demand: Demand) -> int:
        """Return how many trials will run at once; print a note if fewer than asked for.

        Raises:
            UsageError: If no trial fits.
        """
        if self.address:
            return self.concurrency or 1
        room = plan_resources(demand).concurrency
        if self.concurrency and room < self.concurrency:
            print(f"note: --concurrency {self.concurrency}: this machine has room for {room}")
        return room


def provenance(device: str) -> dict[str, str]:
    """Return git commit, versions and device for the tracker's tags."""
    packages = ("torch", "ray", "optuna", "mlflow", "numpy", "wfdb")
    return {
        "git_commit": git_commit(),
        "device": device,
        "host_python": platform.python_version(),
        **{f"version_{name}": metadata.version(name) for name in packages},
        "version_study": __version__,
    }


def git_commit() -> str:
    """Return the commit of this checkout, with +dirty where files differ from it."""
    here = Path(__file__).parent
    try:
        commit = _git(here, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(here, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(folder: Path, *words: str) -> str:
    # Fixed words, no shell; the user's PATH decides which git runs.
    done = subprocess.run(  # nosec B603 B607
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
