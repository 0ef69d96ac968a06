"""The backbones of several members at once: the quickest way on a GPU.

The network of `study.models.backbone`, with a first axis for members. Grouped convolutions would
be slow in float32 (cuDNN runs the gradients of their weights group by group). So each convolution
is a product with all its taps, and then a sum of shifted taps:

    z = w x    [K, branches * taps * out, in] @ [K, in, B * T]
    y[t] = z_left[t - d] + z_centre[t] + z_right[t + d]

One product serves the four branches of a stage, and its two gradients are one product each.
`torch.compile` makes a few kernels of all operations between products.

A bias before batch norm gets no gradient here: batch norm subtracts the bias again, so that its
gradient is zero but for rounding.

Shapes: K members, B beats, T samples or time steps, C channels.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
import torch._functorch.config
from torch import Tensor
from torch.nn import functional as F

from study.models.backbone import DILATIONS, EPSILON, MACNNSE

_logger = logging.getLogger(__name__)

PREFIX = "backbone."
"""Prefix of the backbone's parameters and buffers in a classifier's state."""

_MOMENTUM = 0.1
"""Momentum of running moments, as `torch.nn.BatchNorm2d` has it."""

_EXPECTED = ("The .grad attribute of a Tensor", "TensorFloat32 tensor cores")
"""Warnings of the compiler that do not matter: its input is no leaf, products are exact."""

_SHAPES_COMPILED = 64
"""Shapes that a worker compiles at most: members, batch sizes and inputs differ between trials."""


class BatchMoments(NamedTuple):
    """Moments of joined batch norms: their names, mean and biased variance [K, C], and B * T."""

    norms: Sequence[str]
    mean: Tensor
    variance: Tensor
    n: int


class PackedBackbone:
    """Runs the backbones of K members: their parameters and buffers, another order of operations.

    Args:
        dtype: Of activations and of products in training; None is the weights' own. Statistics
            and sums are in float32 at least, evaluation in the weights' own type.
        compiled: Compile what training runs, once for each shape.

    Attributes:
        note: What happened that a user should know; empty if nothing did.
        refused: Why this process does not compile, if so. It tries once: a failure takes seconds,
            and would come again in every trial.
    """

    refused: ClassVar[str] = ""

    def __init__(self, dtype: torch.dtype | None = None, *, compiled: bool = False) -> None:
        self.note = PackedBackbone.refused if compiled else ""
        self._dtype = dtype
        self._compiled = compiled

    def __call__(
        self, state: Mapping[str, Tensor], x: Tensor, *, training: bool, over_time: bool
    ) -> Tensor:
        """Map beats [K, B, channels, T] to feature maps, or to their means over time.

        `state` has the stacked parameters and buffers of the classifiers. In training the batch
        normalises, and running moments are updated. `over_time` asks for the feature map
        [K, B, C, T / 2]; else its mean, [K, B, C, 1], is returned.
        """
        backbone = {
            name.removeprefix(PREFIX): tensor
            for name, tensor in state.items()
            if name.startswith(PREFIX) and not (training and ".running_" in name)
        }
        dtype = backbone["stem.weight"].dtype
        if training and self._dtype is not None:
            dtype = self._dtype
        # The stem is not compiled: what follows is then one graph for inputs of any channels.
        stem = _Pass(backbone, dtype, training).stem(x)
        rest = {name: tensor for name, tensor in backbone.items() if not name.startswith("stem.")}
        run = self._run if training else _after_stem
        feature_map, moments = run(rest, stem, dtype, training, over_time)
        for batch_moments in moments:
            _track(state, batch_moments)
        return feature_map

    def _run(self, *arguments: Any) -> tuple[Tensor, list[BatchMoments]]:
        """Return what `_after_stem` does, compiled where that is possible."""
        if self._compiled and not PackedBackbone.refused:
            torch._dynamo.config.recompile_limit = _SHAPES_COMPILED
            # Compiles the backward pass too: a failure must come before running moments change.
            torch._functorch.config.force_non_lazy_backward_lowering = True
            try:
                with warnings.catch_warnings():
                    for message in _EXPECTED:
                        warnings.filterwarnings("ignore", message)
                    return torch.compile(_after_stem, dynamic=False, fullgraph=True)(*arguments)
            except torch.OutOfMemoryError:
                raise
            # Any error: each of the compiler's many parts raises its own.
            except Exception as error:
                reason = " ".join(str(error).partition("Set TORCH")[0].split())[:300]
                self.note = f"kernels cannot be compiled: trains about half as fast ({reason})"
                PackedBackbone.refused = self.note
                _logger.warning("%s", self.note)
        return _after_stem(*arguments)


@dataclass(frozen=True, slots=True)
class OneOfAPack:
    """Runs one member's backbone as a pack does: in evaluation, on a device that trains packs."""

    def __call__(self, backbone: MACNNSE, x: Tensor, *, over_time: bool) -> Tensor:
        """Map beats [B, 1, channels, T] to the feature map, or to its mean over time."""
        tensors = (*backbone.named_parameters(), *backbone.named_buffers())
        state = {PREFIX + name: tensor[None] for name, tensor in tensors}
        rows = x.transpose(0, 1)
        packed = PackedBackbone()(state, rows, training=backbone.training, over_time=over_time)
        return packed[0]

    def in_training_precision(self) -> OneOfAPack:
        """Return itself: evaluation takes little of the time on such a device."""
        return self


def _after_stem(
    state: Mapping[str, Tensor], x: Tensor, dtype: torch.dtype, training: bool, over_time: bool
) -> tuple[Tensor, list[BatchMoments]]:
    """Return what `PackedBackbone` makes of the stem's [K, C, B, T], and the moments found."""
    network = _Pass(state, dtype, training)
    rows = network.residual("residual_1", network.stage("aspp_1", "se_1", x), stride=1)
    rows = network.residual("residual_2", network.stage("aspp_2", "se_2", rows), stride=2)
    rows = network.norm(["activation.0"], rows).relu().to(dtype)
    feature_map = network.stage("aspp_3", "se_3", rows, pooled=not over_time)
    return feature_map.transpose(1, 2), network.moments


class _Pass:
    """One pass through the network, [K, C, B, T] all along; `state` is that of the backbone."""

    def __init__(self, state: Mapping[str, Tensor], dtype: torch.dtype, training: bool) -> None:
        self.moments: list[BatchMoments] = []
        self._state = state
        self._dtype = dtype
        self._wide = torch.float32 if dtype is torch.bfloat16 else dtype
        self._training = training

    def stem(self, x: Tensor) -> Tensor:
        """Convolve beats [K, B, channels, T]; the kernel spans all channels."""
        weight = self._state["stem.weight"].transpose(2, 3)
        (rows,) = self.convolved([weight], (1,), x.transpose(1, 2).to(self._dtype))
        return (rows + self._state["stem.bias"][:, :, None, None]).to(self._dtype)

    def stage(self, aspp: str, excitation: str, x: Tensor, *, pooled: bool = False) -> Tensor:
        """Branches, batch norm, tanh, squeeze-and-excitation; pooled, its mean over time."""
        branches = [f"{aspp}.branches.{number}" for number in range(len(DILATIONS))]
        branch_rows = self.convolved(
            [self._state[f"{b}.0.weight"] for b in branches], DILATIONS, x
        )
        biases = self._joined([f"{b}.0.bias" for b in branches]).detach()
        joined = (torch.cat(branch_rows, dim=1) + biases[:, :, None, None]).to(self._dtype)
        active = self.norm([f"{b}.1" for b in branches], joined).tanh()
        mean = active.sum(dim=3) / active.shape[3]
        hidden = torch.bmm(self._state[f"{excitation}.scale.0.weight"], mean).relu()
        factor = torch.bmm(self._state[f"{excitation}.scale.2.weight"], hidden).sigmoid()
        if pooled:
            return (mean * factor)[..., None]
        return (active * factor[..., None]).to(self._dtype)

    def residual(self, block: str, x: Tensor, *, stride: int) -> Tensor:
        """Two times batch norm, ReLU, convolution; the input is added, averaged where strided."""
        rows = self.norm([f"{block}.body.0"], x).relu().to(self._dtype)
        (rows,) = self.convolved(
            [self._state[f"{block}.body.2.weight"]], (1,), rows, stride=stride
        )
        bias = self._state[f"{block}.body.2.bias"].detach()
        rows = (rows + bias[:, :, None, None]).to(self._dtype)
        rows = self.norm([f"{block}.body.3"], rows).relu().to(self._dtype)
        (rows,) = self.convolved([self._state[f"{block}.body.5.weight"]], (1,), rows)
        rows = rows + self._state[f"{block}.body.5.bias"][:, :, None, None]
        shortcut = sum(x[..., step::stride].to(self._wide) for step in range(stride)) / stride
        return (rows + shortcut).to(self._dtype)

    def norm(self, norms: Sequence[str], x: Tensor) -> Tensor:
        """Batch norms side by side, each member's own, in the wide type."""
        wide = x.to(self._wide)
        if self._training:
            variance, mean = torch.var_mean(wide, dim=(2, 3), correction=0)
            n = x.shape[2] * x.shape[3]
            self.moments.append(BatchMoments(norms, mean.detach(), variance.detach(), n))
        else:
            mean = self._joined([f"{norm}.running_mean" for norm in norms])
            variance = self._joined([f"{norm}.running_var" for norm in norms])
        weight = self._joined([f"{norm}.weight" for norm in norms])
        bias = self._joined([f"{norm}.bias" for norm in norms])
        scale = weight * (variance + EPSILON).rsqrt()
        return (wide - mean[..., None, None]) * scale[..., None, None] + bias[..., None, None]

    def convolved(
        self, weights: Sequence[Tensor], dilations: Sequence[int], x: Tensor, *, stride: int = 1
    ) -> list[Tensor]:
        """Convolve one input with several kernels [K, out, in, 1, 3], in the wide type.

        Only a kernel without dilation may have a stride.
        """
        kernel = torch.stack([weight.squeeze(3) for weight in weights], dim=1)
        kernel = kernel.permute(0, 1, 4, 2, 3).to(self._dtype)  # [K, kernels, tap, out, in]
        if stride == 1:
            taps = _products(kernel.flatten(1, 2), x)
        else:
            even, odd = x.unflatten(3, (-1, 2)).unbind(4)
            left, right = _products(kernel[:, 0, ::2], odd)
            taps = [left, *_products(kernel[:, 0, 1:2], even), right]
        out = []
        for number, dilation in enumerate(dilations):
            left, centre, right = (tap.to(self._wide) for tap in taps[3 * number : 3 * number + 3])
            # Left of an even sample lies the odd one of the pair before, right the one of its own.
            back = dilation if stride == 1 else 0
            out.append(F.pad(left, (dilation, -dilation)) + centre + F.pad(right, (-back, back)))
        return out

    def _joined(self, names: Sequence[str]) -> Tensor:
        return torch.cat([self._state[name] for name in names], dim=1)


def _products(kernels: Tensor, x: Tensor) -> Sequence[Tensor]:
    """Return the products of kernels [K, n, out, in] with [K, in, B, T], n of [K, out, B, T]."""
    members, n, out, _ = kernels.shape
    product = torch.bmm(kernels.flatten(1, 2), x.flatten(2))
    return product.view(members, n, out, *x.shape[2:]).unbind(1)


@torch.no_grad()
def _track(state: Mapping[str, Tensor], moments: BatchMoments) -> None:
    """Update running moments as `torch.nn.BatchNorm2d` does, with the unbiased variance."""
    n_norms = len(moments.norms)
    unbiased = moments.variance * (moments.n / (moments.n - 1))
    for name, values in (("mean", moments.mean), ("var", unbiased)):
        running: list[Any] = [state[f"{PREFIX}{norm}.running_{name}"] for norm in moments.norms]
        torch._foreach_lerp_(running, list(values.chunk(n_norms, dim=1)), _MOMENTUM)
    for norm in moments.norms:
        state[f"{PREFIX}{norm}.num_batches_tracked"].add_(1)
