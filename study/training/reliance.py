"""Measures what trained networks rely on, once, in one pass after the last epoch.

Each member is evaluated on the sampled beats of its own fold:

- RR reliance: how much AUPRC of S and V is lost when RR is permuted. Each sampled beat gets the RR
  of a donor beat of the same record: in the early channels and the late vector (`inputs`), in
  where its window is cut (`window`, daeac only), or in both (`total`). The reliance is AUPRC with
  real RR minus AUPRC with permuted RR, both within folds. The sample has few normal beats; each
  weighs as many as it stands for, so that AUPRC has the scale of the trial's score. A model that
  cannot use RR gives identical outputs, and a reliance of exactly 0.
- Attention: where over time a network looks. It does not say why the network decides.
- The deletion check: AUPRC of S when the time steps attended to most, least or at random are
  masked. If attention marks what a network needs, masking it costs more than masking at random.
- The branch share: the share of each logit's variance that comes from the gated branch.

Shapes: S seeds, M sampled beats, P permutations, J partitions into folds, K sets of
log-probabilities, B batch, R RR features, C classes, D embedding, H heads, L time steps of the
feature map, T samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.config import WINDOWS
from study.data.beat_set import BeatSet
from study.keys import (
    CLASSES,
    MAX_CHANGE,
    MIN_CLASS_BEATS,
    RELIANCE_CLASSES,
    RELIANCE_KINDS,
    reliance,
)
from study.models.blocks import GatedHead
from study.models.classifier import Classifier
from study.training.device import DeviceBeats, Inputs, to_device
from study.training.member import Member, evaluation_batch
from study.training.results import MASKED_SHARE, MASKS, Inspection
from study.training.scores import rank_within


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Results of one pass over the sampled beats."""

    # RR reliance by `study.keys.reliance`: the mean over permutations and seeds; with `_min` and
    # `_max`, the extremes over permutations; and `MAX_CHANGE`. NaN where undefined.
    values: dict[str, float]
    undefined: dict[str, str]  # why, for every name whose value is NaN
    inspection: Inspection  # attention, deletion check and branch share


def measure_reliance(
    members: Sequence[Member],
    beats: DeviceBeats,
    fold: NDArray[np.int64],
    *,
    n_seeds: int,
    morphology: str,
) -> Measurements:
    """Measure what a trial's networks rely on, each on the sampled beats of its own fold.

    Everything is evaluated in the type of training, where that is quicker: differences between two
    such evaluations count, and they are exactly 0 where RR cannot be used. `fold` [J, N] is the
    validation fold of each beat in each partition, -1 where it is in none. A donor's RR changes
    neither a beat's template nor its distances from it.
    """
    sample = beats.beats.reliance
    fold = fold[:, sample.beats]
    scale = _Scale(
        label=beats.beats.label[sample.beats], fold=fold, weight=weights_of(beats.beats)
    )
    label = scale.label
    outputs = _Outputs(beats, n_seeds=n_seeds, morphology=morphology)
    shares = []
    size = evaluation_batch(beats.device)
    for member in members:
        streams = member.streams
        positions = np.flatnonzero(fold[streams.seed_index % len(fold)] == streams.fold)
        branch = _Branch(member.scored)
        with member.scored.in_training_precision():
            for start in range(0, len(positions), size):
                outputs.add(member, branch, positions[start : start + size])
        shares += [branch.share()] if branch.parts else []
    reasons = _reasons(has_rr=members[0].inputs.has_rr, has_windows=sample.windows is not None)
    values, undefined = _compare(outputs, scale, reasons)
    scored = scale.scored
    shown = beats.beats.windows(WINDOWS[morphology][-1])
    inspection = Inspection(
        beats=np.bincount(label[scored], minlength=len(CLASSES)),
        mean_beat=_mean_by_class(shown[sample.beats[scored]], label[scored]),
        attention=outputs.attention(),
        deletion=_deletion(outputs, scale),
        branch_share=np.mean(shares, axis=0) if shares else None,
    )
    return Measurements(values=values, undefined=undefined, inspection=inspection)


def weights_of(beats: BeatSet) -> NDArray[np.float64]:
    """Return how many beats of its record and class each sampled beat stands for, [M].

    All S, V and F beats are sampled; of the normal ones some of each record.
    """
    sampled = beats.reliance.beats
    cell = beats.record * len(CLASSES) + beats.label
    n_all = np.bincount(cell)
    n_sampled = np.bincount(cell[sampled], minlength=len(n_all))
    return np.asarray(n_all[cell[sampled]] / n_sampled[cell[sampled]])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scale:
    """The sampled beats, weighted so that AUPRC has the scale of the trial's score."""

    label: NDArray[np.int64]  # [M]
    fold: NDArray[np.int64]  # [J, M] validation fold in each partition, -1 where it is in none
    weight: NDArray[np.float64]  # [M] beats that each stands for

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Whether each beat is in a fold, [M]: in all partitions, or in none."""
        return np.asarray(self.fold[0] >= 0)

    def auprc(self, log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return AUPRC within folds [K, C] of K sets of log-probabilities [K, M, C].

        The sets are those of all seeds, once or several times.
        """
        return rank_within(
            log_probs,
            self.label,
            self.fold,
            n_groups=int(self.fold.max(initial=-1)) + 1,
            min_beats=MIN_CLASS_BEATS,
            weight=self.weight,
        ).by_class("auprc")


class _Outputs:
    """The members' log-probabilities of the sampled beats: as they are, with RR permuted, masked.

    Attributes:
        real: [S, M, C] of the beats as they are; NaN where a beat is in no validation fold.
        permuted: [P, S, M, C] with RR permuted, by kind of reliance.
        masked: [S, M, C] with time steps masked, by what ranks them; empty without attention.
    """

    def __init__(self, beats: DeviceBeats, *, n_seeds: int, morphology: str) -> None:
        n_permutations, n_beats = beats.beats.reliance.donors.shape
        shape = (n_permutations, n_seeds, n_beats, len(CLASSES))
        self.real = torch.full(shape[1:], torch.nan, device=beats.device)
        self.permuted: dict[str, Tensor] = {
            kind: torch.full(shape, torch.nan, device=beats.device) for kind in RELIANCE_KINDS
        }
        self.masked: dict[str, Tensor] = {}
        self._beats = beats
        self._morphology = morphology
        # Summed over members, not stored: [M, H, L] of all members would be large.
        self._attention: Tensor | None = None
        self._n_attended = torch.zeros(len(CLASSES), device=beats.device)
        # A separate generator: it does not advance training's random streams.
        self._generator = torch.Generator().manual_seed(0)

    @torch.inference_mode()
    def add(self, member: Member, branch: _Branch, positions: NDArray[np.int64]) -> None:
        """Evaluate a member on a batch, given as [B] positions in the sample."""
        sample, device = self._beats.beats.reliance, self._beats.device
        model, at, seed = (
            member.scored.eval(),
            to_device(positions, device),
            member.streams.seed_index,
        )
        index = to_device(sample.beats[positions], device)
        # The feature map of the real beats serves all permutations of late RR, and attention.
        windows = self._beats.recut(self._morphology)
        real = _Encoded(model, member.inputs.take(index))
        with branch:
            self.real[seed, at] = real.log_probs()
        self._add_attention(real, self._beats.label[index], seed, at)
        for p, donors in enumerate(to_device(sample.donors[:, positions], device)):
            donated = member.inputs.donated(real.inputs, donors)
            permuted = {"inputs": real.with_rr(donated)} if donated.has_rr else {}
            if windows is not None:
                window = windows[p, at]
                recut = _Encoded(model, replace(real.inputs, ecg=window))
                permuted["window"] = recut
                permuted["total"] = recut.with_rr(replace(donated, ecg=window))
            elif donated.has_rr:
                permuted["total"] = permuted["inputs"]
            for kind, encoded in permuted.items():
                self.permuted[kind][p, seed, at] = encoded.log_probs()

    def _add_attention(self, real: _Encoded, label: Tensor, seed: int, at: Tensor) -> None:
        """Add the attention of a batch to its classes' sums, and mask what it marks."""
        attention = real.attention()
        if attention is None:
            return
        of_class = F.one_hot(label, len(CLASSES)).T.to(attention.dtype)
        total = torch.einsum("cb,bhl->chl", of_class, attention)
        self._attention = total if self._attention is None else self._attention + total
        self._n_attended += of_class.sum(dim=1)
        over_heads = attention.mean(dim=1)
        by_chance = torch.rand(over_heads.shape, generator=self._generator).to(over_heads.device)
        ranks = {"most": over_heads, "least": -over_heads, "random": by_chance}
        for mask, rank in ranks.items():
            log_probs = self.masked.setdefault(mask, torch.full_like(self.real, torch.nan))
            log_probs[seed, at] = real.masked(rank).log_probs()

    def attention(self) -> NDArray[np.float32] | None:
        """Return mean attention by class [C, H, L], or None."""
        if self._attention is None:
            return None
        mean: NDArray[np.float32] = (
            (self._attention / self._n_attended[:, None, None]).cpu().numpy()
        )
        return mean


class _Encoded:
    """A batch with its feature map, so that the backbone runs once where only late RR differs.

    The model is in evaluation mode; `feature_map` [B, K, L] is given where it is known already.
    """

    def __init__(
        self, model: Classifier, inputs: Inputs, feature_map: Tensor | None = None
    ) -> None:
        self.inputs = inputs
        self._model = model
        if feature_map is None:
            self._feature_map, self._late_rr = model.encode(
                inputs.ecg, inputs.early_rr, inputs.late_rr, None, late_shape=inputs.late_shape
            )
        else:
            late_rr, shape = inputs.late_rr, inputs.late_shape
            self._feature_map = feature_map
            self._late_rr = None if late_rr is None else model.scaled(late_rr, None, shape)

    def with_rr(self, inputs: Inputs) -> _Encoded:
        """Return the same windows with the RR of other inputs."""
        return _Encoded(
            self._model, inputs, self._feature_map if inputs.early_rr is None else None
        )

    def masked(self, rank: Tensor) -> _Encoded:
        """Return the batch without the time steps of highest rank [B, L]."""
        return _Encoded(self._model, replace(self.inputs, ecg=masked(self.inputs.ecg, rank)))

    def log_probs(self) -> Tensor:
        """Return log-probabilities [B, C]."""
        return F.log_softmax(self._model.outputs(self._feature_map, self._late_rr), dim=1)

    def attention(self) -> Tensor | None:
        """Return attention [B, H, L], or None."""
        return self._model.fusion.attention(self._feature_map, self._late_rr)


def masked(ecg: Tensor, rank: Tensor) -> Tensor:
    """Return windows without the steps of highest rank [B, L], a share of `MASKED_SHARE`.

    Windows are [B, T] or [B, 2, T]. A masked step's samples become 0: the mean of the window, or
    no deviation from the template.
    """
    n_steps = rank.shape[1]
    top = rank.topk(max(1, round(MASKED_SHARE * n_steps)), dim=1).indices
    keep = torch.ones_like(rank).scatter(1, top, 0.0)
    keep = keep.repeat_interleave(ecg.shape[-1] // n_steps, dim=1)
    return ecg * keep.view(len(keep), *(1,) * (ecg.ndim - 2), -1)


class _Branch:
    """Collects the inputs of a model's gated head during a block, to split the logits' variance.

    It collects nothing of a model without a gated head.
    """

    def __init__(self, model: Classifier) -> None:
        heads = [part for part in model.fusion.modules() if isinstance(part, GatedHead)]
        self._head = heads[0] if heads else None
        self.parts: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> _Branch:
        if self._head is not None:
            self._hook = self._head.register_forward_pre_hook(self._collect)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._head is not None:
            self._hook.remove()

    def _collect(self, head: torch.nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        assert isinstance(head, GatedHead)
        ecg, branch = inputs
        branch = branch if head.alpha is None else branch * head.alpha.sigmoid()
        weight_ecg, weight_branch = head.output.weight.chunk(2, dim=1)
        self.parts.append((ecg @ weight_ecg.T, branch @ weight_branch.T))

    def share(self) -> NDArray[np.float32]:
        """Return cov(branch, logit) / var(logit) of each class, [C]; the ECG has the rest."""
        ecg, branch = (torch.cat(part).double() for part in zip(*self.parts, strict=True))
        logit = ecg + branch
        centred = logit - logit.mean(dim=0)
        covariance = ((branch - branch.mean(dim=0)) * centred).mean(dim=0)
        share: NDArray[np.float32] = (
            (covariance / centred.square().mean(dim=0)).float().cpu().numpy()
        )
        return share


def _reasons(*, has_rr: bool, has_windows: bool) -> dict[str, str]:
    """Return the reasons for kinds of reliance that cannot be measured."""
    no_rr = "the input has no RR to permute"
    no_window = "only daeac windows are cut by RR"
    reasons = {} if has_rr else {"inputs": no_rr}
    if not has_windows:
        reasons["window"] = no_window
    if not has_rr and not has_windows:
        reasons["total"] = f"{no_rr}, and {no_window}"
    return reasons


def _compare(
    outputs: _Outputs, scale: _Scale, reasons: dict[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """Return reliances by name, and the reasons for those that are NaN."""
    values: dict[str, float] = {}
    undefined: dict[str, str] = {}
    real = outputs.real.cpu().numpy()
    real_auprc = scale.auprc(real)
    for kind in RELIANCE_KINDS:
        permuted = outputs.permuted[kind].cpu().numpy()
        lost = np.full((len(permuted), len(CLASSES)), np.nan)
        change = float("nan")
        if kind not in reasons:
            auprc = scale.auprc(permuted.reshape(-1, *permuted.shape[2:]))
            by_seed = real_auprc - auprc.reshape(*permuted.shape[:2], len(CLASSES))
            lost = by_seed.mean(axis=1)
            scored = scale.scored
            change = float(np.abs(permuted[:, :, scored] - real[:, scored]).max())
        named = {reliance(kind, MAX_CHANGE): change}
        for aami_class in RELIANCE_CLASSES:
            of_class, name = lost[:, CLASSES.index(aami_class)], reliance(kind, aami_class)
            named |= {
                name: float(of_class.mean()),
                f"{name}_min": float(of_class.min()),
                f"{name}_max": float(of_class.max()),
            }
        values |= named
        too_few = f"no fold has {MIN_CLASS_BEATS} or more sampled beats of the class and others"
        undefined |= {name: reasons.get(kind, too_few) for name, v in named.items() if np.isnan(v)}
    return values, undefined


def _deletion(outputs: _Outputs, scale: _Scale) -> dict[str, float]:
    """Return AUPRC of S by what is masked, the mean over seeds; nothing without attention."""
    if not outputs.masked:
        return {}
    log_probs = {"nothing": outputs.real, **outputs.masked}
    s = CLASSES.index("S")
    return {mask: float(scale.auprc(log_probs[mask].cpu().numpy())[:, s].mean()) for mask in MASKS}


def _mean_by_class(rows: NDArray[np.float32], label: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the mean of rows [B, T] by class, [C, T]; NaN for a class without rows."""
    means = np.full((len(CLASSES), rows.shape[1]), np.nan, dtype=np.float32)
    for c in np.unique(label):
        means[c] = rows[label == c].mean(axis=0)
    return means
