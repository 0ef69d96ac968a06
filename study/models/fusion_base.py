"""The interface of every fusion.

Shapes: B beats, C classes, D embedding, H heads, K channels and L time steps of the feature map
(256, 64), R RR features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from study.keys import CLASSES
from study.models.declared import Declares

N_CLASSES = len(CLASSES)


class Fusion(Declares, nn.Module, ABC):
    """Base of all fusions: a feature map and a late RR vector in, class scores out.

    Attributes:
        uses_rr: Whether the late RR vector can change the output.
        takes_late_rr: Whether it is given a late RR vector; `mhca` is, and is blind to it.
        over_time: Whether it looks at single time steps; else at the mean over them only, and may
            be given that instead of the feature map, as [B, K, 1].
        uses_ecg: Whether the feature map can change the output; without, no backbone is built.
        packs: Whether `torch.vmap` can run several members' fusions at once, as a GPU does; else
            they train one by one.
    """

    uses_rr: ClassVar[bool] = True
    takes_late_rr: ClassVar[bool] = True
    over_time: ClassVar[bool] = False
    uses_ecg: ClassVar[bool] = True
    packs: ClassVar[bool] = False

    @abstractmethod
    def forward(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Map [B, K, L] and [B, R] to logits or log-probabilities [B, C]."""

    def gate_values(self) -> Tensor | None:
        """Return the channel gate [D] in (0, 1), or None if there is none."""
        return None

    def attention(self, feature_map: Tensor, rr: Tensor | None) -> Tensor | None:
        """Return attention over time [B, H, L], or None where there is nothing to choose from."""
        return None


def required(rr: Tensor | None) -> Tensor:
    """Return the late RR vector of a fusion that takes one.

    Raises:
        ValueError: If there is none.
    """
    if rr is None:
        raise ValueError("rr: this fusion takes a late RR vector [B, R], got None")
    return rr
