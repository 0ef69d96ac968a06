"""The Ray trainable: one configuration, trained on all its folds and seeds.

It connects prepared beats with `study.training` and its files. It does not know the search, the
tracker or other trials. Its state is kept under the configuration's digest, outside Ray's
experiment, so that any later driver can continue the trial.
"""

from __future__ import annotations

import io
import pickle
import socket
import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray import tune
from ray.experimental.internal_kv import _internal_kv_put

from study.config import Cut, TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import CheckpointError, DiskError
from study.files import rows_csv
from study.keys import EPOCH, Outcome, Tag
from study.models import rules
from study.models.cpu_kernels import has_compiled_kernels
from study.models.plugins.plugin import Plugin
from study.spaces.settings import SCREENING_EPOCHS
from study.store import trial_files
from study.store.storage import Storage
from study.training.device import DeviceBeats, resolve_device
from study.training.engine import Engine
from study.training.loop import TrialTraining

CHECKPOINT, WEIGHTS = trial_files.CHECKPOINT, trial_files.WEIGHTS

CONFIG = "config"
"""Key in Ray's settings for a worker: the trial's configuration by flat names."""

METRICS, NOTE, BUSY_SECONDS = "metrics", "note", "busy_seconds"
"""Keys in a worker's report to Ray after each epoch."""

_UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError)
"""Errors that `torch.load` raises for a file that is no training state."""

_NO_MEMORY = (
    "can't allocate memory",
    "could not create a primitive",
    "bad_alloc",
    "failed to map segment",
)
"""Messages of PyTorch, oneDNN, C++ and the loader where Python would raise `MemoryError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """The data and settings that all trials share; Ray's object store holds them once."""

    # Beat sets by segmentation, resampling method and template
    beats: Mapping[Cut, BeatSet]
    folds: Folds  # folds over the records of every beat set
    n_seeds: int  # seeds of each fold; with several partitions, shared out over them
    study_seed: int  # root of all random streams
    device: str  # device that trials train on
    storage: Storage  # where trials keep their files
    engine: Engine = Engine()  # engine that trials compute with
    # Whether trials of `SCREENING_EPOCHS` are a screening, which needs only the score that steers
    # the search
    screens: bool = False
    plugins: tuple[Plugin, ...] = ()  # plug-ins that a worker loads

    def screening(self, config: TrialConfig) -> bool:
        """Say whether a configuration has the short budget of a screening."""
        return self.screens and config.train.epochs == SCREENING_EPOCHS

    def beats_of(self, config: TrialConfig) -> BeatSet:
        """Return the beat set that a configuration trains on."""
        return self.beats[config.signal.cut]

    @property
    def nbytes(self) -> int:
        """Size of the beats that trials share."""

        def placed(beats: BeatSet) -> int:
            recut = beats.reliance.windows
            size = beats.ecg.nbytes + (0 if recut is None else recut.nbytes)
            # Beats, deviations, and both in one.
            return size if beats.reference is None else 4 * size

        return sum(map(placed, self.beats.values()))

    def training(
        self, config: TrialConfig, device_beats: DeviceBeats | None = None
    ) -> TrialTraining:
        """Build the members of a configuration."""
        return TrialTraining(
            config,
            self.beats_of(config),
            self.folds,
            n_seeds=self.n_seeds,
            study_seed=self.study_seed,
            device=self.device,
            device_beats=device_beats,
            engine=self.engine_here,
            screening=self.screening(config),
        )

    @property
    def engine_here(self) -> Engine:
        """Engine that trials compute with on this machine, which may not be the driver's.

        In a mixed cluster a worker may have no GPU (on a CPU members train faster one by one) or
        no compiler.
        """
        if resolve_device(self.device).type != "cpu":
            return self.engine
        wanted = self.engine.compiled or self.engine.packed
        return replace(self.engine, packed=False, compiled=wanted and has_compiled_kernels())


def place_key(digest: str) -> str:
    """Return the key in Ray's store under which a trial says where it is."""
    return f"study:at:{digest}"


class TrialRun:
    """One configuration from its first (or checkpointed) epoch to its result."""

    def __init__(
        self, config: TrialConfig, job: TrialJob, device_beats: DeviceBeats | None = None
    ) -> None:
        self._config = config
        self._job = job
        self._device_beats = device_beats
        self._folder = job.storage.folder(rules.digest(config))
        self._busy_s = 0.0
        self._training = job.training(config, device_beats)
        self._unsaved = False
        self._note = "; ".join(note for note in (self._continue(), self._slower_here()) if note)

    def _continue(self) -> str:
        """Load an intact checkpoint if there is one; return a note on it."""
        content = self._folder.read(CHECKPOINT)
        if content is None:
            return ""
        try:
            self._training.load_state_dict(read_checkpoint(content))
        except CheckpointError as error:
            self._training = self._job.training(self._config, self._device_beats)
            return f"started again: {error}"
        return f"continued after epoch {self._training.epoch}"

    def _slower_here(self) -> str:
        """Return a note if this machine cannot compute as planned; empty if it can."""
        if self._job.engine.packed or self._job.engine_here == self._job.engine:
            return ""
        return (
            f"kernels cannot be compiled on {socket.gethostname()}: trains as "
            f"'{self._job.engine_here}', up to twice as long"
        )

    def _save(self) -> None:
        state = _as_bytes(self._training.state_dict())
        self._folder.write(CHECKPOINT, trial_files.pack_checkpoint(self._training.epoch, state))

    def step(self) -> dict[str, Any]:
        """Train one epoch of all members; after the last, finish and write the result."""
        if self._unsaved:
            # An epoch is saved only after its report was received: when Ray asks for the next one.
            # So a continued trial never skips an epoch that was not recorded.
            self._save()
        report = self._training.run_epoch(self._tell)
        self._unsaved = True
        self._busy_s += report.seconds_train + report.seconds_eval
        metrics = dict(report.metrics)
        outcome = ""
        if self._training.finished and self._job.screening(self._config):
            outcome = str(Outcome.SCREENED)
        elif self._training.finished:
            metrics.update(self._finish())
            outcome = str(Outcome.COMPLETE)
        return {
            EPOCH: report.epoch,
            METRICS: metrics,
            NOTE: "; ".join(note for note in (self._note, self._training.note) if note),
            BUSY_SECONDS: self._busy_s,
            Tag.OUTCOME: outcome,
            Tag.CAUSE: "",
        }

    def _tell(self, place: str) -> None:
        """Let the driver show where this trial is, through Ray's own key-value store."""
        with suppress(Exception):  # only a screen reads it
            if ray.is_initialized():
                _internal_kv_put(place_key(rules.digest(self._config)), place)

    def _finish(self) -> dict[str, float]:
        begun = time.perf_counter()
        result = self._training.finish()
        self._busy_s += time.perf_counter() - begun
        self._folder.write(trial_files.PREDICTIONS, trial_files.pack_predictions(result))
        self._folder.write(trial_files.PER_RECORD, rows_csv(result.per_record).encode())
        self._folder.write(trial_files.SCORES, trial_files.scores_json(result))
        self._folder.write(WEIGHTS, _as_bytes(result.weights))
        return dict(result.metrics)


def read_checkpoint(content: bytes) -> dict[str, Any]:
    """Return the training state of a checkpoint, without executing code in it.

    Raises:
        CheckpointError: If it is damaged, or of another version.
    """
    _, state = trial_files.unpack_checkpoint(content)
    try:
        return dict(torch.load(io.BytesIO(state), weights_only=True))
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise CheckpointError(f"its checkpoint is damaged ({type(error).__name__})") from error


def _as_bytes(tensors: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def _limit_gpu_memory() -> None:
    """Limit this process's GPU memory to its share, which Ray does not enforce."""
    if torch.cuda.is_available():
        share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
        if 0 < share < 1:
            torch.cuda.set_per_process_memory_fraction(share)


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """Ray's trainable: builds a `TrialRun` in its first step, so that a failure is reported."""

    def setup(self, config: dict[str, Any], *, job: TrialJob) -> None:
        """Keep the data that all trials share; Ray calls this once per actor."""
        # Two trials with two threads each are slower than with one each, and many times slower on
        # a busy machine, where OpenMP's barriers spin.
        torch.set_num_threads(1)
        _limit_gpu_memory()
        for plugin in job.plugins:
            plugin.load()
        self._job = job
        self._run: TrialRun | None = None
        self._on_device: dict[Cut, DeviceBeats] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process (`reuse_actors`)."""
        self.cleanup()
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; report a failure that would repeat itself instead of raising it."""
        try:
            if self._run is None:
                self._run = self._begin(TrialConfig.from_flat(self.config[CONFIG]))
            result = self._run.step()
        # Not the configuration's fault: Ray tries again, elsewhere or later.
        except MemoryError:
            self._run = None
            raise
        except OSError as error:
            self._run = None
            if isinstance(error, DiskError):
                raise
            raise DiskError(f"{error.filename or 'a file'}: {error.strerror or error}") from error
        # Every error is caught here: a failing trial must end as FAILED with its cause. Ray would
        # retry it, which only helps after a lost worker.
        except Exception as error:
            self._run = None
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError(str(error).partition("\n")[0]) from error
            result = {
                EPOCH: 0,
                METRICS: {},
                NOTE: traceback.format_exc(),
                BUSY_SECONDS: 0.0,
                Tag.OUTCOME: str(Outcome.FAILED),
                Tag.CAUSE: f"{type(error).__name__}: {error}",
            }
        return {**result, "done": bool(result[Tag.OUTCOME])}

    def _begin(self, config: TrialConfig) -> TrialRun:
        # Beats are moved to the device once per worker, not once per trial.
        cut = config.signal.cut
        if cut not in self._on_device:
            device = resolve_device(self._job.device)
            self._on_device[cut] = DeviceBeats(self._job.beats_of(config), device)
        return TrialRun(config, self._job, self._on_device[cut])

    def cleanup(self) -> None:
        """Release the members and the GPU's memory."""
        self._run = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
