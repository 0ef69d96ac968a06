"""The whole network: channels, backbone, fusion; and the builder from a configuration.

Shapes: B beats, T samples (128), R late RR features, D scalars of shape (0 or 2), C classes, H
heads, K channels and L time steps of the feature map (256, 64).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from study.config import LATE_RR_WIDTH, ModelConfig, SignalSpec
from study.models.backbone import BACKBONES, FEATURES, MACNNSE, Backbone
from study.models.declared import names_of
from study.models.fusion import FUSIONS
from study.models.fusion_base import N_CLASSES, Fusion
from study.models.initialise import initialise
from study.models.rules import check_combination

_NEUTRAL_RATIO = 1.0
"""Value of hidden early channels: an interval as long as the mean."""


class RunBackbone(Protocol):
    """Computes a backbone's output in another way: by compiled kernels, or as packs do."""

    def __call__(self, backbone: MACNNSE, x: Tensor, *, over_time: bool) -> Tensor:
        """Map beats [B, 1, channels, T] to the feature map, or to its mean over time [B, K, 1]."""

    def in_training_precision(self) -> RunBackbone:
        """Return a runner that evaluates in the type of training, where that is quicker."""


class Classifier(nn.Module):
    """Beats and their RR in, logits or log-probabilities out.

    The late vector has the RR features and then the scalars of shape. Its mean and standard
    deviation over the member's training beats (see `set_rr_statistics`) are buffers, and so part
    of a trained model. So is the logit adjustment, which is added in evaluation only
    (`study.training.losses.logit_adjustment`).

    Args:
        backbone: What precedes the fusion; None where the fusion does not use the ECG.
        windows: Rows of its input that are windows of the beat: 1, or 2 (beat and deviation).
        early: Whether two more rows have the early ratios.
        n_rr: Features R of the late RR vector, 0 without one.
        n_shape: Scalars of shape D after it.
        fusion: What follows the backbone.

    Attributes:
        run_backbone: Computes a `MACNNSE` in another way than PyTorch's modules do (see
            `study.models.cpu_backbone` and `study.models.pack_backbone`), or None. PyTorch's
            modules compute every other backbone.
    """

    run_backbone: RunBackbone | None = None

    rr_mean: Tensor
    rr_sd: Tensor
    logit_adjustment: Tensor

    def __init__(
        self,
        *,
        backbone: Backbone | None,
        windows: int = 1,
        early: bool,
        n_rr: int,
        n_shape: int = 0,
        standardise_rr: bool,
        fusion: Fusion,
    ) -> None:
        super().__init__()
        self.windows = windows
        self.early = early
        self.n_rr = n_rr
        self.n_shape = n_shape
        self.standardise_rr = standardise_rr
        # Buffers go where the weights go: to a checkpoint, to a served model.
        self.register_buffer("rr_mean", torch.zeros(n_rr + n_shape))
        self.register_buffer("rr_sd", torch.ones(n_rr + n_shape))
        self.register_buffer("logit_adjustment", torch.zeros(N_CLASSES))
        self.backbone = backbone
        self.fusion = fusion

    @property
    def packs(self) -> bool:
        """Whether several members can be computed at once (see `study.training.lockstep`)."""
        return self.fusion.packs and self._is_macnn_se

    @property
    def _is_macnn_se(self) -> bool:
        """Whether there is a fused and a packed form of the backbone, or none is needed."""
        return self.backbone is None or type(self.backbone) is MACNNSE

    def run_by(self, run_backbone: RunBackbone | None) -> None:
        """Let `run_backbone` compute the backbone if that is a `MACNNSE`."""
        self.run_backbone = run_backbone if self._is_macnn_se else None

    def set_rr_statistics(self, mean: Tensor, sd: Tensor) -> None:
        """Set mean and standard deviation [R + D] of the training beats' late vectors.

        A feature that does not vary is only centred.

        Raises:
            ValueError: If a shape is not [R + D] or a value is not finite.
        """
        width = self.n_rr + self.n_shape
        for name, values in (("mean", mean), ("sd", sd)):
            if tuple(values.shape) != (width,) or not bool(torch.isfinite(values).all()):
                raise ValueError(f"{name}: must be {width} finite values, got {values.tolist()}")
        self.rr_mean.copy_(mean)
        self.rr_sd.copy_(torch.where(sd > 0, sd, 1.0))

    def forward(
        self,
        ecg: Tensor,
        early_rr: Tensor | None,
        late_rr: Tensor | None,
        hide_rr: Tensor | None = None,
        feature_map: Tensor | None = None,
        late_shape: Tensor | None = None,
    ) -> Tensor:
        """Return logits or log-probabilities [B, C]; `log_softmax` suits both.

        Args:
            ecg: [B, T] windows; [B, 2, T] where there are two.
            early_rr: [B, 2] ratios, or None where the input has no early channels.
            late_rr: [B, R] as prepared, unscaled, or None where the input has no late vector.
            hide_rr: [B] bool, beats whose RR is hidden: ratios become 1, the late vector the mean.
            feature_map: [B, K, L] of these beats, where the backbone has been run already.
            late_shape: [B, D] scalars of shape, unscaled, or None where the input has none; they
                are never hidden.

        Raises:
            ValueError: If RR or shape is missing, or given where this network has no input for it.
        """
        feature_map, rr = self.encode(ecg, early_rr, late_rr, hide_rr, feature_map, late_shape)
        return self.outputs(feature_map, rr)

    def outputs(self, feature_map: Tensor, rr: Tensor | None) -> Tensor:
        """Return logits or log-probabilities [B, C] from what `encode` gave."""
        outputs: Tensor = self.fusion(feature_map, rr)
        return outputs if self.training else outputs + self.logit_adjustment

    @contextmanager
    def in_training_precision(self) -> Iterator[None]:
        """Evaluate in the type of training during a block, where that is quicker.

        It is less precise: use it for scores that only steer, and for differences of two scores.
        """
        exact = self.run_backbone
        if exact is not None:
            self.run_backbone = exact.in_training_precision()
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
        late_shape: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the fusion's inputs: feature map [B, K, L] and late vector [B, R + D].

        L is 1 where `run_backbone` is set and the fusion uses only the mean over time.

        Raises:
            ValueError: If RR or shape is missing, or given where this network has no input for it.
        """
        if (early_rr is not None) != self.early:
            raise ValueError(_mismatch("early_rr", "[B, 2]", needed=self.early))
        if (late_rr is not None) != (self.n_rr > 0):
            raise ValueError(_mismatch("late_rr", f"[B, {self.n_rr}]", needed=self.n_rr > 0))
        if (late_shape is not None) != (self.n_shape > 0):
            shape = f"[B, {self.n_shape}]"
            raise ValueError(_mismatch("late_shape", shape, needed=self.n_shape > 0))
        late = None if late_rr is None else self.scaled(late_rr, hide_rr, late_shape)
        if self.backbone is None:
            # Empty, not None: every fusion is called in one way.
            return ecg.new_empty((len(ecg), FEATURES, 0)), late
        if feature_map is None:
            rows = self.rows(ecg, early_rr, hide_rr)[:, None]
            if self.run_backbone is not None and isinstance(self.backbone, MACNNSE):
                over_time = self.fusion.over_time
                feature_map = self.run_backbone(self.backbone, rows, over_time=over_time)
            else:
                feature_map = self.backbone(rows)
        if not self.training or not self.backbone.map_dropout:
            return feature_map, late
        kept = torch.ones_like(feature_map[:, :, :1])
        return feature_map * functional.dropout(kept, self.backbone.map_dropout), late

    def rows(self, ecg: Tensor, early_rr: Tensor | None, hide_rr: Tensor | None) -> Tensor:
        """Return the backbone's input for windows [..., T] or [..., 2, T]: [..., channels, T]."""
        rows = ecg if self.windows > 1 else ecg.unsqueeze(-2)
        if early_rr is None:
            return rows
        if hide_rr is not None:
            early_rr = early_rr.masked_fill(hide_rr.unsqueeze(-1), _NEUTRAL_RATIO)
        ratios = early_rr.unsqueeze(-1).expand(*early_rr.shape, ecg.shape[-1])
        return torch.cat((rows, ratios), dim=-2)

    def scaled(
        self, late_rr: Tensor, hide_rr: Tensor | None, late_shape: Tensor | None = None
    ) -> Tensor:
        """Return late vectors [B, R + D] as the fusion sees them; hidden RR is the mean."""
        if hide_rr is not None:
            late_rr = torch.where(hide_rr[:, None], self.rr_mean[: self.n_rr], late_rr)
        late = late_rr if late_shape is None else torch.cat((late_rr, late_shape), dim=-1)
        return (late - self.rr_mean) / self.rr_sd if self.standardise_rr else late


def _mismatch(name: str, shape: str, *, needed: bool) -> str:
    return (
        f"{name}: this network needs {shape}, got None"
        if needed
        else f"{name}: this network has no input for it; give None"
    )


def build_fusion(model: ModelConfig, *, n_rr: int, features: int = FEATURES) -> Fusion:
    """Build a configuration's fusion, for K `features`, from the options that it declares."""
    class_ = FUSIONS[model.fusion]
    options: dict[str, Any] = {name: model.option(name) for name in sorted(names_of(class_))}
    if class_.takes_late_rr:
        options["n_rr"] = n_rr
    if features != FEATURES:
        options["features"] = features
    return class_(**options)


def build_backbone(model: ModelConfig, *, channels: int) -> Backbone | None:
    """Build a configuration's backbone from its options; None where the fusion uses no ECG."""
    if not FUSIONS[model.fusion].uses_ecg:
        return None
    class_ = BACKBONES[model.backbone]
    options: dict[str, Any] = {name: model.option(name) for name in sorted(names_of(class_))}
    return class_(channels=channels, **options)


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
        backbone = build_backbone(model, channels=signal.channels)
        features = FEATURES if backbone is None else backbone.features
        classifier = Classifier(
            backbone=backbone,
            windows=len(signal.windows),
            early=option.early_rr,
            n_rr=n_rr,
            n_shape=signal.n_shape,
            standardise_rr=model.rr_scale == "standardised",
            fusion=build_fusion(model, n_rr=n_rr + signal.n_shape, features=features),
        )
    initialise(classifier, seed)
    return classifier
