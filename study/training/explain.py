"""Looks inside trained networks: where they attend, what masking costs, what a branch moves.

Descriptive: attention says where a network looks, not why it decides. The deletion check holds it
against what happens when that part of the window is masked.

Shapes: M sampled beats, B batch, C classes, H heads, L time steps of the feature map, T samples,
D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.keys import CLASSES, MIN_CLASS_BEATS
from study.models.blocks import GatedHead
from study.training.device import DeviceBeats, to_device
from study.training.member import Member, evaluation_batch
from study.training.scores import rank_within

MASKED_SHARE = 0.2
"""Share of the time steps that the deletion check masks."""

MASKS = ("nothing", "most", "least", "random")
"""What is masked: nothing, what is attended to most, least, and as much at random."""

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Insides:
    """What was found.

    Args:
        beats: [C] sampled beats of each class.
        mean_beat: [C, T] their mean window; NaN for a class without beats.
        attention: [C, H, L] their mean attention, or None.
        deletion: AUPRC S within folds of the sampled beats, by `MASKS`; empty without attention.
        branch_share: [C] share of each logit's variance that is the gated branch's, or None.
    """

    beats: NDArray[np.int64]
    mean_beat: Float
    attention: Float | None
    deletion: Mapping[str, float]
    branch_share: Float | None


def look_inside(members: Sequence[Member], beats: DeviceBeats, fold: NDArray[np.int64]) -> Insides:
    """Look inside the members of one seed, each on the sampled beats of its own fold.

    Args:
        members: One for each fold, with trained weights.
        beats: The beats, on the device.
        fold: [N] validation fold of each beat; -1 where it is in none.
    """
    sample = beats.beats.reliance.beats
    label = beats.beats.label[sample]
    log_probs = {
        mask: np.full((1, len(sample), len(CLASSES)), np.nan, dtype=np.float32) for mask in MASKS
    }
    attention: list[Tensor] = []
    attended: list[NDArray[np.int64]] = []
    shares: list[Float] = []
    size = evaluation_batch(beats.device)
    generator = torch.Generator().manual_seed(0)
    for member in members:
        mine = np.flatnonzero(fold[sample] == member.streams.fold)
        branch = _Branch(member)
        with torch.inference_mode():
            for start in range(0, len(mine), size):
                at = mine[start : start + size]
                index = to_device(sample[at], beats.device)
                found = _batch(member, index, branch, generator)
                for mask, values in found.log_probs.items():
                    log_probs[mask][0, at] = values.cpu().numpy()
                if found.attention is not None:
                    attention.append(found.attention.cpu())
                    attended.append(label[at])
        shares += [branch.share()] if branch.parts else []
    deletion = {}
    if attention:
        n_folds = int(fold.max()) + 1
        deletion = {
            mask: _auprc_s(log_probs[mask], label, fold[sample], n_folds) for mask in MASKS
        }
    counts = np.bincount(label[fold[sample] >= 0], minlength=len(CLASSES))
    return Insides(
        beats=counts,
        mean_beat=_by_class(beats.beats.ecg[sample], label),
        attention=_by_class(torch.cat(attention).numpy(), np.concatenate(attended))
        if attention
        else None,
        deletion=deletion,
        branch_share=np.mean(shares, axis=0) if shares else None,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    log_probs: Mapping[str, Tensor]
    attention: Tensor | None


def _batch(member: Member, index: Tensor, branch: _Branch, generator: torch.Generator) -> _Found:
    model, inputs = member.scored.eval(), member.inputs.take(index)
    feature_map, late_rr = model.encode(inputs.ecg, inputs.early_rr, inputs.late_rr, None)
    with branch:
        logits = model.fusion(feature_map, late_rr)
    found = {"nothing": F.log_softmax(logits, dim=1)}
    attention = model.fusion.attention(feature_map, late_rr)
    if attention is not None:
        over_heads = attention.mean(dim=1)
        by_chance = torch.rand(over_heads.shape, generator=generator).to(over_heads.device)
        order = {"most": over_heads, "least": -over_heads, "random": by_chance}
        for mask, rank in order.items():
            scores = model(masked(inputs.ecg, rank), inputs.early_rr, inputs.late_rr)
            found[mask] = F.log_softmax(scores, dim=1)
    return _Found(found, attention)


def masked(ecg: Tensor, rank: Tensor) -> Tensor:
    """Return windows [B, T] without the steps of highest rank [B, L], a share of `MASKED_SHARE`.

    A masked step's samples become 0, the mean of the window.
    """
    n_steps = rank.shape[1]
    top = rank.topk(max(1, round(MASKED_SHARE * n_steps)), dim=1).indices
    keep = torch.ones_like(rank).scatter(1, top, 0.0)
    return ecg * keep.repeat_interleave(ecg.shape[1] // n_steps, dim=1)


class _Branch:
    """Collects what a gated head gets, to split the variance of its logits in two.

    Args:
        member: Whose head is watched.
    """

    def __init__(self, member: Member) -> None:
        heads = [m for m in member.scored.fusion.modules() if isinstance(m, GatedHead)]
        self.head = heads[0] if heads else None
        self.parts: list[tuple[Tensor, Tensor]] = []

    def __enter__(self) -> _Branch:
        if self.head is not None:
            self._hook = self.head.register_forward_pre_hook(self._keep)
        return self

    def __exit__(self, *exception: object) -> None:
        if self.head is not None:
            self._hook.remove()

    def _keep(self, head: torch.nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
        assert isinstance(head, GatedHead)
        ecg, branch = inputs
        branch = branch if head.alpha is None else branch * head.alpha.sigmoid()
        weight_ecg, weight_branch = head.output.weight.chunk(2, dim=1)
        self.parts.append((ecg @ weight_ecg.T, branch @ weight_branch.T))

    def share(self) -> Float:
        """Return cov(branch, logit) / var(logit) of each class, [C]; the ECG has the rest."""
        ecg, branch = (torch.cat(part).double() for part in zip(*self.parts, strict=True))
        logit = ecg + branch
        centred = logit - logit.mean(dim=0)
        covariance = ((branch - branch.mean(dim=0)) * centred).mean(dim=0)
        share: Float = (covariance / centred.square().mean(dim=0)).float().cpu().numpy()
        return share


def _auprc_s(
    log_probs: Float, label: NDArray[np.int64], fold: NDArray[np.int64], n_folds: int
) -> float:
    ranked = rank_within(log_probs, label, fold, n_groups=n_folds, min_beats=MIN_CLASS_BEATS)
    return float(ranked.by_class("auprc")[0, CLASSES.index("S")])


def _by_class(values: NDArray[np.floating], label: NDArray[np.int64]) -> Float:
    """Return the mean of rows by class, [C, ...]; NaN for a class without rows."""
    found = np.full((len(CLASSES), *values.shape[1:]), np.nan, dtype=np.float32)
    for c in range(len(CLASSES)):
        if (label == c).any():
            found[c] = values[label == c].mean(axis=0)
    return found
