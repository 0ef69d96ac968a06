"""The Ray trainable: one configuration, trained on all its folds and seeds.

It wires prepared beats to `study.training` and knows where its files are. It does not know the
search, the tracker or the other trials. State is kept under the configuration's digest, outside
Ray's experiment, so that any later driver can continue it.
"""

from __future__ import annotations

import io
import pickle
import socket
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch
from ray import tune

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import CheckpointError, DiskError
from study.files import rows_csv
from study.keys import EPOCH, Outcome, Tag
from study.models import rules
from study.models.cpu_kernels import has_compiled_kernels
from study.spaces.settings import SCREENING_EPOCHS
from study.store import trial_files
from study.store.storage import Storage
from study.training.device import DeviceBeats, resolve_device
from study.training.engine import Engine
from study.training.loop import TrialTraining

CHECKPOINT, WEIGHTS = trial_files.CHECKPOINT, trial_files.WEIGHTS

CONFIG = "config"
"""In what Ray hands a worker: the trial's configuration by flat names."""

METRICS, NOTE, SECONDS, BUSY_SECONDS = "metrics", "note", "seconds", "busy_seconds"
"""In what a worker hands Ray after each epoch."""

_UNREADABLE = (RuntimeError, EOFError, OSError, LookupError, TypeError, ValueError)
"""What `torch.load` raises of a file that is no training state."""

_NO_MEMORY = (
    "can't allocate memory",
    "could not create a primitive",
    "bad_alloc",
    "failed to map segment",
)
"""What PyTorch, oneDNN, C++ and the loader say where Python would raise `MemoryError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialJob:
    """What all trials of a study share; Ray's object store holds it once."""

    beats: Mapping[tuple[str, str], BeatSet]  # beat sets by segmentation and resampling method
    folds: Folds  # folds over the records of every beat set
    n_seeds: int  # seeds per fold
    study_seed: int  # root of all random streams
    device: str  # device that trials train on
    storage: Storage  # where trials keep their files
    engine: Engine = Engine()  # what trials compute with
    # Whether trials of `SCREENING_EPOCHS` are a screening, of which only a score that steers is
    # wanted
    screens: bool = False

    def screening(self, config: TrialConfig) -> bool:
        """Say whether a configuration is trained for the short budget of a screening."""
        return self.screens and config.train.epochs == SCREENING_EPOCHS

    def beats_of(self, config: TrialConfig) -> BeatSet:
        """Return the beat set that a configuration trains on."""
        return self.beats[config.signal.cut]

    @property
    def nbytes(self) -> int:
        """Size of the beats that trials share."""
        return sum(
            beats.ecg.nbytes
            + (0 if beats.reliance.windows is None else beats.reliance.windows.nbytes)
            for beats in self.beats.values()
        )

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
        """What trials compute with on this machine, which may not be that of the driver.

        A worker of a mixed cluster may have no GPU, and members train faster in turn on a CPU;
        another may have no compiler.
        """
        if resolve_device(self.device).type != "cpu":
            return self.engine
        wanted = self.engine.compiled or self.engine.packed
        return replace(self.engine, packed=False, compiled=wanted and has_compiled_kernels())


class TrialRun:
    """One configuration from its first (or checkpointed) epoch to its result."""

    def __init__(
        self, config: TrialConfig, job: TrialJob, device_beats: DeviceBeats | None = None
    ) -> None:
        self._config = config
        self._job = job
        self._device_beats = device_beats
        self._folder = job.storage.folder(rules.digest(config))
        self._started = time.perf_counter()
        self._busy_s = 0.0
        self._training = job.training(config, device_beats)
        self._unsaved = False
        self._note = "; ".join(note for note in (self._continue(), self._slower_here()) if note)

    def _continue(self) -> str:
        """Load an intact checkpoint where there is one; say what was done."""
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
        """Say that this machine cannot compute as the plan has it; empty if it can."""
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
            # An epoch is saved when its report has been received, that is, when the next one is
            # asked for: a continued trial then never skips an epoch that nobody recorded.
            self._save()
        report = self._training.run_epoch()
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
            SECONDS: time.perf_counter() - self._started,
            BUSY_SECONDS: self._busy_s,
            Tag.OUTCOME: outcome,
            Tag.CAUSE: "",
        }

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
    """Return the training state of a checkpoint; nothing in it is executed.

    Raises:
        CheckpointError: If it is damaged, or of another version.
    """
    state = trial_files.checkpoint_state(content)
    try:
        return dict(torch.load(io.BytesIO(state), weights_only=True))
    except (*_UNREADABLE, pickle.UnpicklingError) as error:
        raise CheckpointError(f"its checkpoint is damaged ({type(error).__name__})") from error


def _as_bytes(tensors: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    return buffer.getvalue()


def _limit_gpu_memory() -> None:
    """Limit this process's GPU memory to its share: Ray counts shares and enforces none."""
    if torch.cuda.is_available():
        share = ray.get_runtime_context().get_assigned_resources().get("GPU", 0.0)
        if 0 < share < 1:
            torch.cuda.set_per_process_memory_fraction(share)


class FusionTrial(tune.Trainable):  # type: ignore[misc]
    """What Ray runs: builds a `TrialRun` in its first step, where a failure is reported too."""

    def setup(self, config: dict[str, Any], *, job: TrialJob) -> None:
        """Remember what the study shares; Ray calls this once per actor."""
        # Two trials on two threads each are slower than on one each, many times so on a busy
        # machine, where OpenMP's barriers spin.
        torch.set_num_threads(1)
        _limit_gpu_memory()
        self._job = job
        self._run: TrialRun | None = None
        self._on_device: dict[tuple[str, str], DeviceBeats] = {}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in the same process (`reuse_actors`)."""
        self.cleanup()
        self.config = new_config
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch; a failure that would repeat itself is reported, not raised."""
        begun = time.perf_counter()
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
        # The one place that catches everything: a trial that fails must end as FAILED with its
        # cause, and Ray would try it again, which helps against lost workers only.
        except Exception as error:
            self._run = None
            if any(words in str(error) for words in _NO_MEMORY):
                raise MemoryError(str(error).partition("\n")[0]) from error
            result = {
                EPOCH: 0,
                METRICS: {},
                NOTE: traceback.format_exc(),
                SECONDS: time.perf_counter() - begun,
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
        """Let go of the members, and of a GPU's memory."""
        self._run = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
