"""Ways to run the same network on one core: what each trains and evaluates per second.

  python benchmarks/formulations.py [--fusion concat_proj] [--rounds 5]

All in one process of one thread, in turn, on random beats; batch 128, AdamW, gradient clipping.
Rates are by process time, so that another busy process disturbs little. Prints medians, ratios to
the network as it is written, and the seconds that a way takes before its second step.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from study.config import LATE_RR_WIDTH, N_SAMPLES, ModelConfig, SignalSpec, TrialConfig
from study.keys import CLASSES
from study.models.backbone import MACNNSE
from study.models.classifier import Classifier, build_model
from study.models.cpu_backbone import FusedBackbone
from study.models.cpu_kernels import compiled_kernels
from study.training.engine import WORKER_ENVIRONMENT
from study.training.optimiser import make_optimiser

SECONDS = 1.0
BATCH = TrialConfig().train.batch_size


@dataclass
class Way:
    """One way to run the network."""

    name: str
    prepare: Callable[[Classifier], None] = lambda model: None
    autocast: bool = False
    trained: list[float] = field(default_factory=list)
    evaluated: list[float] = field(default_factory=list)
    first_s: float = 0.0

    def build(self, fusion: str) -> None:
        """Build the network and take the first step, which compiles what is compiled."""
        signal = SignalSpec(input="opt1")
        self.model = build_model(signal, ModelConfig(fusion=fusion), seed=(0, 0, 0))
        width = LATE_RR_WIDTH[signal.late_rr]
        generator = torch.Generator().manual_seed(0)
        self.beats = torch.randn(BATCH, N_SAMPLES, generator=generator)
        self.rr = torch.randn(BATCH, width, generator=generator)
        self.label = torch.randint(len(CLASSES), (BATCH,), generator=generator)
        parameters = list(self.model.named_parameters())
        self.optimiser = make_optimiser(parameters, learning_rate=1e-3, weight_decay=1e-2)
        began = time.perf_counter()
        self.prepare(self.model)
        self.step()
        self.predict()
        self.first_s = time.perf_counter() - began

    def _outputs(self) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            outputs: Tensor = self.model(self.beats, None, self.rr)
        return outputs.float()

    def step(self) -> None:
        """Train on a batch."""
        self.model.train()
        self.optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(self._outputs(), self.label))
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()

    @torch.inference_mode()
    def predict(self) -> None:
        """Evaluate a batch."""
        self.model.eval()
        self._outputs()


def fused(dtype: torch.dtype) -> Callable[[Classifier], None]:
    """Return what makes a network run with the compiled kernels."""

    def prepare(model: Classifier) -> None:
        kernels = compiled_kernels(dtype)
        if kernels is None:
            raise SystemExit("the kernels cannot be compiled on this machine")
        model.run_backbone = FusedBackbone(dtype, kernels)

    return prepare


def compile_whole(model: Classifier) -> None:
    """Leave the whole backbone to `torch.compile`."""
    backbone = model.backbone
    assert isinstance(backbone, MACNNSE)
    backbone.forward = torch.compile(backbone.forward, dynamic=False)  # type: ignore[method-assign]


def channels_last(model: Classifier) -> None:
    """Keep the convolutions' weights with channels innermost."""
    to: Any = model.to  # not every version of PyTorch declares this form of it
    to(memory_format=torch.channels_last)


WAYS = (
    Way("as written, float32"),
    Way("channels_last", channels_last),
    Way("bfloat16 autocast", autocast=True),
    Way("torch.compile", compile_whole),
    Way("torch.compile + bfloat16 autocast", compile_whole, autocast=True),
    Way("compiled kernels, float32", fused(torch.float32)),
    Way("compiled kernels, bfloat16 (evaluates in float32)", fused(torch.bfloat16)),
)


def rate(work: Callable[[], None]) -> float:
    """Return beats per second of process time."""
    began, batches = time.process_time(), 0
    while time.process_time() - began < SECONDS:
        work()
        batches += 1
    return batches * BATCH / (time.process_time() - began)


def main() -> None:
    """Run all ways in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--fusion", default="concat_proj", help="default concat_proj")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in WORKER_ENVIRONMENT.items()):
        # As in a worker; glibc reads these before the first line of Python runs.
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WORKER_ENVIRONMENT)
    torch.set_num_threads(1)
    for way in WAYS:
        way.build(args.fusion)
    for _ in range(args.rounds):
        for way in WAYS:
            way.trained.append(rate(way.step))
            way.evaluated.append(rate(way.predict))
    print(
        f"{args.fusion}, batch {BATCH}, torch {torch.__version__}, {args.rounds} rounds, beats/s"
    )
    base = [statistics.median(values) for values in (WAYS[0].trained, WAYS[0].evaluated)]
    for way in WAYS:
        trained, evaluated = statistics.median(way.trained), statistics.median(way.evaluated)
        print(
            f"{way.name:<40} trained {trained:6,.0f} {trained / base[0]:5.2f}  "
            f"evaluated {evaluated:6,.0f} {evaluated / base[1]:5.2f}  first {way.first_s:5.1f} s"
        )


if __name__ == "__main__":
    main()
