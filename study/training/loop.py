"""Trains all members of a trial, epoch by epoch.

Shapes: S seeds, N beats, C classes, D embedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study.config import TrialConfig
from study.data.beat_set import BeatSet
from study.data.folds import Folds
from study.errors import CheckpointError, ConfigError, DivergedError, StudyStateError, listed
from study.keys import (
    BEATS_PER_SECOND,
    CLASSES,
    GATE_MAX,
    GATE_MEAN,
    GATE_MIN,
    LEARNING_RATE,
    TRAIN_LOSS,
)
from study.models.rules import check_combination, digest
from study.training.batches import stand_ins
from study.training.device import DeviceBeats, on_cpu, resolve_device, synchronise
from study.training.engine import Engine
from study.training.member import build_members
from study.training.reliance import measure_reliance
from study.training.results import EpochReport, TrialResult
from study.training.scores import Scores, score
from study.training.seeding import FRESH_SEED
from study.training.serial import Began


class TrialTraining:
    """Trains one configuration on all folds and seeds.

    Args:
        folds: The members of seed s have the folds of partition s mod the number of partitions.
        n_seeds: Seeds, shared out over the partitions: a multiple of their number. A fold has a
            member for each seed of its partition.
        study_seed: Root of all random streams.
        device_beats: The same beats, already on the device; None moves them there.
        screening: Score the last epoch on the same beats as those before: such a score only
            steers a search.

    Raises:
        ConfigError: If the configuration is not allowed, or the beats are cut otherwise.
    """

    def __init__(
        self,
        config: TrialConfig,
        beats: BeatSet,
        folds: Folds,
        *,
        n_seeds: int,
        study_seed: int,
        device: str = "cpu",
        device_beats: DeviceBeats | None = None,
        engine: Engine | None = None,
        screening: bool = False,
    ) -> None:
        check_combination(config.signal, config.model)
        check_cut(config, beats)
        self.config = config
        self.epoch = 0
        self._beats = beats
        self._n_seeds = n_seeds
        self._screening = screening
        self._device = resolve_device(device)
        engine = engine or Engine()
        self._on_device = device_beats or DeviceBeats(beats, self._device)
        # A checkpoint must agree in all of these. The engine too: another one rounds otherwise.
        self._identity: dict[str, str | int] = {
            "configuration": digest(config),
            "beats": beats.fingerprint,
            "folds": folds.fingerprint,
            "seeds": n_seeds,
            "study seed": study_seed,
            "engine": str(engine),
        }
        splits = folds.splits(beats)
        self._fold = folds.of_beats(beats)
        self._n_beats = len(beats.label)
        self._validates = bool((self._fold >= 0).any())
        self._first_seed = 0 if self._validates else FRESH_SEED
        self._stand_ins = stand_ins(beats.label, beats.record)
        self._members = build_members(
            config,
            self._on_device,
            splits,
            seeds=range(self._first_seed, self._first_seed + n_seeds),
            study_seed=study_seed,
            n_partitions=folds.n_partitions,
            dtype=engine.weights,
            run_backbone=engine.backbone(self._device),
        )
        self._trainer = engine.trainer(self._members)
        self._predictions: NDArray[np.float32] | None = None

    @property
    def note(self) -> str:
        """What happened in training that a user should know; empty if nothing did."""
        return self._trainer.note

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= self.config.train.epochs

    def run_epoch(self, tell: Callable[[str], None] | None = None) -> EpochReport:
        """Train all members for one epoch and score their validation predictions.

        `tell` is called as each fold (or member, if there are several seeds) begins to train, and
        as scoring begins. Where all records train, no beat is predicted: only the loss is known.

        Scores before the last epoch only steer a search. They are of every fifth normal beat
        (`study.training.batches`) and, where that is quicker, computed in the type of training.

        Raises:
            DivergedError: If a member's loss or prediction is not finite.
            StudyStateError: If all epochs are done.
        """
        if self.finished:
            raise StudyStateError(f"training: all {self.epoch} epochs are done")
        start = time.perf_counter()
        # Copying the losses waits for the device, so that the clock is read after training.
        losses = self._trainer.train_epoch(self.epoch, self._telling(tell)).cpu()
        trained = time.perf_counter()
        if tell is not None:
            tell(f"{self._epoch_now} scoring")
        self.epoch += 1
        self._check_finite(losses, "training loss")
        scores = None
        if self._validates:
            self._predictions = self._predict(exact=self.finished and not self._screening)
            scores = self._score(self._predictions)
        n_beats = sum(member.shape.beats for member in self._members)
        metrics = {
            TRAIN_LOSS: float(losses.mean()),
            LEARNING_RATE: self._trainer.last_learning_rate,
            BEATS_PER_SECOND: n_beats / (trained - start),
            **(scores.values if scores else {}),
            **self._gate_metrics(),
        }
        return EpochReport(
            epoch=self.epoch,
            metrics=metrics,
            undefined=scores.undefined if scores else {},
            seconds_train=trained - start,
            seconds_eval=time.perf_counter() - trained,
        )

    def _telling(self, tell: Callable[[str], None] | None) -> Began | None:
        """Return a function that reports which member begins to train."""
        if tell is None:
            return None
        kind, of = "fold" if self._n_seeds == 1 else "member", len(self._members)
        return lambda number: tell(f"{self._epoch_now} {kind} {number}/{of}")

    @property
    def _epoch_now(self) -> str:
        return f"epoch {self.epoch + 1}/{self.config.train.epochs}"

    def finish(self) -> TrialResult:
        """Return predictions, scores, weights and what the networks rely on, after the last epoch.

        Raises:
            StudyStateError: If epochs are still to be run.
            DivergedError: If a prediction is not finite.
        """
        if not self.finished:
            epochs = self.config.train.epochs
            raise StudyStateError(f"training: {self.epoch} of {epochs} epochs are done")
        if not self._validates:
            return self._without_scores()
        # None after a checkpoint of the last epoch was loaded.
        if self._predictions is None or self._screening:
            self._predictions = self._predict(exact=True)
        scores = self._score(self._predictions)
        start = time.perf_counter()
        measured = measure_reliance(
            self._members,
            self._on_device,
            self._fold,
            n_seeds=self._n_seeds,
            morphology=self.config.signal.morphology,
        )
        synchronise(self._device)
        seconds = time.perf_counter() - start
        return TrialResult(
            log_probs=self._predictions,
            metrics={**scores.values, **self._gate_metrics(), **measured.values},
            undefined={**scores.undefined, **measured.undefined},
            per_fold=scores.per_fold,
            per_record=scores.per_record,
            confusion=scores.confusion,
            gates=self._gates(),
            inspection=measured.inspection,
            weights=[on_cpu(member.scored.state_dict()) for member in self._members],
            seconds_reliance=seconds,
        )

    def _without_scores(self) -> TrialResult:
        """Return the result of training on all records: weights, and no predictions."""
        weights = [on_cpu(member.scored.state_dict()) for member in self._members]
        finite = [all(bool(v.isfinite().all()) for v in state.values()) for state in weights]
        self._check_finite(torch.where(torch.tensor(finite), 0.0, torch.nan), "weights")
        n_classes = len(CLASSES)
        return TrialResult(
            log_probs=np.full((self._n_seeds, self._n_beats, n_classes), np.nan, np.float32),
            metrics=self._gate_metrics(),
            undefined={},
            per_fold=[],
            per_record=[],
            confusion=np.zeros((n_classes, n_classes), dtype=np.int64),
            gates=self._gates(),
            weights=weights,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return what is needed to continue: tensors on the CPU and plain containers."""
        members = on_cpu(self._trainer.state_dicts())
        return {"identity": dict(self._identity), "epoch": self.epoch, "members": members}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state_dict`, with the results of an uninterrupted trial.

        Raises:
            CheckpointError: If the state is damaged, or of another trial.
        """
        try:
            identity, epoch, members = state["identity"], int(state["epoch"]), state["members"]
            faults = [
                f"{name}: the checkpoint has {identity[name]!r}, this trial {ours!r}"
                for name, ours in self._identity.items()
                if identity[name] != ours
            ]
            if not faults:
                self._trainer.load_state_dicts(members)
        except (KeyError, TypeError, ValueError, RuntimeError) as err:
            raise CheckpointError(f"checkpoint is damaged: {err!r}") from err
        if faults:
            raise CheckpointError(listed("checkpoint of another trial", faults))
        self.epoch = epoch
        self._predictions = None

    def _predict(self, *, exact: bool) -> NDArray[np.float32]:
        shape = (self._n_seeds, self._n_beats, len(CLASSES))
        log_probs = torch.full(shape, torch.nan, device=self._device)
        finite = []
        predictions = self._trainer.predict(exact=exact)
        for member, predicted in zip(self._members, predictions, strict=True):
            finite.append(predicted.isfinite().all())
            beats = member.to_predict(exact=exact)
            log_probs[member.streams.seed_index - self._first_seed, beats] = predicted.float()
        # One transfer from the device for all members.
        marks = torch.where(torch.stack(finite), 0.0, torch.nan).cpu()
        self._check_finite(marks, "validation predictions")
        predictions_on_cpu = log_probs.cpu().numpy()
        return predictions_on_cpu if exact else predictions_on_cpu[:, self._stand_ins]

    def _score(self, log_probs: NDArray[np.float32]) -> Scores:
        beats = self._beats
        return score(
            log_probs,
            beats.label,
            beats.record,
            self._fold,
            record_names=beats.record_names,
            databases=beats.databases,
        )

    def _check_finite(self, values: Tensor, name: str) -> None:
        broken = [
            m.streams for m, v in zip(self._members, values, strict=True) if not v.isfinite()
        ]
        if broken:
            members = ", ".join(f"fold {s.fold} of seed {s.seed_index}" for s in broken)
            raise DivergedError(
                f"diverged: {name} not finite in epoch {self.epoch}, {members}; configuration "
                f"{digest(self.config)}: {self.config.flat()}; try a lower learning_rate"
            )

    def _gates(self) -> NDArray[np.float32] | None:
        gates = [member.scored.gate_values() for member in self._members]
        present = [gate for gate in gates if gate is not None]
        return torch.stack(present).cpu().numpy() if present else None

    def _gate_metrics(self) -> dict[str, float]:
        gates = self._gates()
        if gates is None:
            return {}
        summary = {GATE_MEAN: gates.mean(), GATE_MIN: gates.min(), GATE_MAX: gates.max()}
        return {name: float(value) for name, value in summary.items()}


def check_cut(config: TrialConfig, beats: BeatSet) -> None:
    """Check that beats are cut as a configuration says.

    Raises:
        ConfigError: If they are not.
    """
    names = ("segmentation", "resampling", "template")
    faults = [
        f"{name}: the configuration has '{wanted}', the beats '{got}'"
        for name, wanted, got in zip_longest(names, config.signal.cut, beats.cut, fillvalue="none")
        if wanted != got
    ]
    if faults:
        raise ConfigError(listed("training", faults))
