"""Class weights, losses, and what they do to probabilities. Shapes: B batch, C classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from study.errors import ConfigError, unknown
from study.keys import CLASSES
from study.training.batches import NORMAL

_POWERS = {"none": 0.0, "sqrt_inverse": 0.5, "inverse": 1.0}


def times_shown(label: NDArray[np.int64], *, normal_beats: int) -> NDArray[np.float64]:
    """Return how many times an epoch over a data set shows a beat of each class, on average, [C].

    It shows all S, V and F once, and `normal_beats` N (0: all once).
    """
    times, n_normal = np.ones(len(CLASSES)), int((label == NORMAL).sum())
    if normal_beats and n_normal:
        times[NORMAL] = normal_beats / n_normal
    return times


def class_weights(
    label: NDArray[np.int64], kind: str, *, normal_beats: int
) -> NDArray[np.float32]:
    """Return loss weights [C] with mean 1 over the classes present, from a data set's labels.

    `inverse` is the inverse of a class's frequency in an epoch (see `times_shown`). A class
    without beats gets 0. The trial passes the labels of the whole data set, so that the weights
    are the same in every fold.

    Raises:
        ConfigError: If the kind is unknown.
    """
    if kind not in _POWERS:
        raise ConfigError(f"class_weights: {unknown('kind', kind, _POWERS)}")
    times = times_shown(label, normal_beats=normal_beats)
    counts = np.bincount(label, minlength=len(CLASSES)) * times
    present = counts > 0
    weights = np.zeros(len(CLASSES), dtype=np.float32)
    rarity = counts[present] ** -_POWERS[kind]
    weights[present] = rarity / rarity.mean()
    return weights


def logit_adjustment(counted: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return what to add to logits [C] so that probabilities have the classes' true shares.

    Training counts a beat of class c as `counted[c]` beats: its loss weight times how often it is
    shown. Of n_c beats the loss sees counted[c] n_c, and log(n_c) - log(counted[c] n_c) corrects
    for it (Menon et al. 2021, arXiv:2007.07314, post hoc; Saerens et al. 2002,
    doi:10.1162/089976602753284446). A class without weight is not trained, and gets 0.
    """
    adjustment = np.zeros(len(counted), dtype=np.float32)
    trained = counted > 0
    adjustment[trained] = -np.log(counted[trained])
    return adjustment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Loss:
    """Weighted cross-entropy, focal if `gamma` is above 0 (Lin et al. 2017, arXiv:1708.02002).

    A beat's loss is weighted by its class and the sum divided by the batch's sum of weights, as in
    `torch.nn.CrossEntropyLoss`; label smoothing mixes in the mean over classes, unweighted.
    """

    weights: Tensor  # [C] class weights
    gamma: float = 0.0  # focusing exponent; 0 is cross-entropy
    label_smoothing: float = 0.0  # mass spread over all classes
    rr_weight: float = 0.0  # weight of the RR expert's own loss; outputs are then [B, 2C]

    def __call__(self, outputs: Tensor, label: Tensor) -> Tensor:
        """Return the loss of a batch from logits or log-probabilities [B, C] or [B, 2C]."""
        if not self.rr_weight:
            return self._mean(outputs, label)
        both, expert = outputs.chunk(2, dim=1)
        return self._mean(both, label) + self.rr_weight * self._mean(expert, label)

    def _mean(self, outputs: Tensor, label: Tensor) -> Tensor:
        log_probs = F.log_softmax(outputs, dim=1)
        log_prob = log_probs.gather(1, label[:, None])[:, 0]
        loss = -log_prob
        if self.label_smoothing:
            loss = torch.lerp(loss, -log_probs.mean(dim=1), self.label_smoothing)
        if self.gamma:
            # Below 1 the power's slope at 0 is infinite, and 0 * inf would be NaN.
            loss = loss * (-torch.expm1(log_prob)).clamp_min(1e-6) ** self.gamma
        weight = self.weights[label]
        return (loss * weight).sum() / weight.sum()
