"""The whole network: channels, backbone, fusion; and the builder from a configuration.

Shapes: B beats, T samples (128), R late RR features, C classes, H heads, L time steps (64).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from study.config import LATE_RR_WIDTH, ModelConfig, SignalSpec
from study.models.backbone import FEATURES, MACNNSE
from study.models.fusion import FUSIONS
from study.models.fusion_base import Fusion
from study.models.initialise import initialise
from study.models.rules import check_combination

_NEUTRAL_RATIO = 1.0
"""Value of hidden early channels: an interval as long as the mean."""


class RunBackbone(Protocol):
    """Computes a backbone's output in another way: by compiled kernels, or as packs do."""

    def __call__(self, backbone: MACNNSE, x: Tensor, *, over_time: bool) -> Tensor:
        """Map beats [B, 1, channels, T] to the feature map, or to its mean over time [B, K, 1]."""

    def roughly(self) -> RunBackbone:
        """Return a runner that evaluates in the type of training, where that is quicker."""


class Classifier(nn.Module):
    """Beats and their RR in, logits or log-probabilities out.

    The mean and standard deviation of the late RR vector are buffers: they are part of a trained
    model, and belong to the member's training beats (see `set_rr_statistics`).

    Args:
        channels: Rows of the ECG tensor: 1, or 3 with the two early ratios.
        n_rr: Features R of the late vector, 0 without one.
        fusion: What follows the backbone; where it does not use the ECG there is no backbone.

    Attributes:
        run_backbone: Computes the backbone in another way than PyTorch's modules do (see
            `study.models.cpu_backbone` and `study.models.pack_backbone`), or None.
    """

    run_backbone: RunBackbone | None = None

    rr_mean: Tensor
    rr_sd: Tensor

    def __init__(self, *, channels: int, n_rr: int, standardise_rr: bool, fusion: Fusion) -> None:
        super().__init__()
        self.early = channels > 1
        self.n_rr = n_rr
        self.standardise_rr = standardise_rr
        # Buffers, so that they go wherever the weights go: to a checkpoint, to a served model.
        self.register_buffer("rr_mean", torch.zeros(n_rr))
        self.register_buffer("rr_sd", torch.ones(n_rr))
        self.backbone = MACNNSE(channels=channels) if fusion.uses_ecg else None
        self.fusion = fusion

    def set_rr_statistics(self, mean: Tensor, sd: Tensor) -> None:
        """Set mean and standard deviation [R] of the training beats' late RR vectors.

        A feature that does not vary is only centred.

        Raises:
            ValueError: If a shape is not [R] or a value is not finite.
        """
        for name, values in (("mean", mean), ("sd", sd)):
            if tuple(values.shape) != (self.n_rr,) or not bool(torch.isfinite(values).all()):
                raise ValueError(
                    f"{name}: must be {self.n_rr} finite values, got {values.tolist()}"
                )
        self.rr_mean.copy_(mean)
        self.rr_sd.copy_(torch.where(sd > 0, sd, 1.0))

    def forward(
        self,
        ecg: Tensor,
        early_rr: Tensor | None,
        late_rr: Tensor | None,
        hide_rr: Tensor | None = None,
        feature_map: Tensor | None = None,
    ) -> Tensor:
        """Return logits or log-probabilities [B, C]; `log_softmax` suits both.

        Args:
            ecg: [B, T] windows.
            early_rr: [B, 2] ratios, or None where the input has no early channels.
            late_rr: [B, R] as prepared, unscaled, or None where the input has no late vector.
            hide_rr: [B] bool, beats whose RR is hidden: ratios become 1, the late vector the mean.
            feature_map: [B, 256, L] of these beats, where the backbone has been run already.

        Raises:
            ValueError: If RR is missing, or given where this network has no input for it.
        """
        feature_map, rr = self.encode(ecg, early_rr, late_rr, hide_rr, feature_map)
        scores: Tensor = self.fusion(feature_map, rr)
        return scores

    @contextmanager
    def roughly(self) -> Iterator[None]:
        """Evaluate in the type of training while this is open, where that is quicker.

        It is less precise: use it for scores that only steer, and for differences of two scores.
        """
        exact = self.run_backbone
        if exact is not None:
            self.run_backbone = exact.roughly()
        try:
            yield
        finally:
            self.run_backbone = exact

    def gate_values(self) -> Tensor | None:
        """Return the channel gate [D] in (0, 1), or None if the fusion has none."""
        return self.fusion.gate_values()

    def encode(
        self,
        ecg: Tensor,
        early_rr: Tensor | None,
        late_rr: Tensor | None,
        hide_rr: Tensor | None,
        feature_map: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the fusion's inputs: feature map [B, 256, L] and late vector [B, R].

        L is 1 where `run_backbone` is set and the fusion uses only the mean over time.

        Raises:
            ValueError: If RR is missing, or given where this network has no input for it.
        """
        if (early_rr is not None) != self.early:
            raise ValueError(_mismatch("early_rr", "[B, 2]", needed=self.early))
        if (late_rr is not None) != (self.n_rr > 0):
            raise ValueError(_mismatch("late_rr", f"[B, {self.n_rr}]", needed=self.n_rr > 0))
        if late_rr is not None:
            late_rr = self.scaled(late_rr, hide_rr)
        if self.backbone is None:
            # Empty, not None: every fusion is called in one way.
            return ecg.new_empty((len(ecg), FEATURES, 0)), late_rr
        if feature_map is not None:
            return feature_map, late_rr
        rows = self.rows(ecg, early_rr, hide_rr)
        if self.run_backbone is not None:
            over_time = self.fusion.over_time
            return self.run_backbone(self.backbone, rows[:, None], over_time=over_time), late_rr
        return self.backbone(rows[:, None]), late_rr

    def rows(self, ecg: Tensor, early_rr: Tensor | None, hide_rr: Tensor | None) -> Tensor:
        """Return the backbone's input for beats [..., T]: [..., channels, T]."""
        rows = ecg.unsqueeze(-2)
        if early_rr is None:
            return rows
        if hide_rr is not None:
            early_rr = early_rr.masked_fill(hide_rr.unsqueeze(-1), _NEUTRAL_RATIO)
        ratios = early_rr.unsqueeze(-1).expand(*early_rr.shape, ecg.shape[-1])
        return torch.cat((rows, ratios), dim=-2)

    def scaled(self, late_rr: Tensor, hide_rr: Tensor | None) -> Tensor:
        """Return late vectors [B, R] as the fusion sees them; hidden ones are the mean."""
        if hide_rr is not None:
            late_rr = torch.where(hide_rr[:, None], self.rr_mean, late_rr)
        return (late_rr - self.rr_mean) / self.rr_sd if self.standardise_rr else late_rr


def _mismatch(name: str, shape: str, *, needed: bool) -> str:
    return (
        f"{name}: this network needs {shape}, got None"
        if needed
        else f"{name}: this network has no input for it; give None"
    )


def build_fusion(model: ModelConfig, *, n_rr: int) -> Fusion:
    """Build a configuration's fusion from the options that it declares."""
    class_ = FUSIONS[model.fusion]
    options: dict[str, Any] = {name: getattr(model, name) for name in sorted(class_.options)}
    return class_(n_rr=n_rr, **options) if class_.takes_late_rr else class_(**options)


def build_model(signal: SignalSpec, model: ModelConfig, *, seed: Sequence[int]) -> Classifier:
    """Build and initialise the network of a configuration, on the CPU.

    Its first weights depend on `seed` alone, such as (study seed, seed index, fold).

    Raises:
        ConfigError: If input and fusion do not go together, or heads do not divide `embed_dim`.
    """
    check_combination(signal, model)
    option = signal.option
    n_rr = LATE_RR_WIDTH[signal.late_rr] if option.late_rr else 0
    # PyTorch draws weights when it builds a layer; `initialise` draws them anew.
    with torch.random.fork_rng(devices=[]):
        classifier = Classifier(
            channels=option.channels,
            n_rr=n_rr,
            standardise_rr=model.rr_scale == "standardised",
            fusion=build_fusion(model, n_rr=n_rr),
        )
    initialise(classifier, seed)
    return classifier
