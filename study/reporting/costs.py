"""What one network of each arm costs: parameters, operations and time on this machine."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from study.config import N_SAMPLES, TrialConfig
from study.models.classifier import Classifier, build_model
from study.reporting.page.results import Cost

BATCH = 256

_ALONE, _BATCHES = 15, 3


def machine() -> str:
    """Say what times were measured on."""
    return f"{platform.machine()} CPU, one thread, torch {torch.__version__}"


def measure(configs: Mapping[str, TrialConfig]) -> dict[str, Cost]:
    """Build one network of each arm and run it.

    Args:
        configs: A configuration of each arm.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {arm: _cost(config) for arm, config in configs.items()}
    finally:
        torch.set_num_threads(threads)


@torch.inference_mode()
def _cost(config: TrialConfig) -> Cost:
    model = build_model(config.signal, config.model, seed=(0,)).eval()
    counter = FlopCounterMode(display=False)
    with counter:
        model(*_inputs(model, 1))
    return Cost(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        operations=int(counter.get_total_flops()),
        milliseconds_one=_milliseconds(model, 1, _ALONE),
        milliseconds_batch=_milliseconds(model, BATCH, _BATCHES) / BATCH,
    )


def _inputs(model: Classifier, n: int) -> tuple[Any, ...]:
    return (
        torch.zeros(n, N_SAMPLES),
        torch.ones(n, 2) if model.early else None,
        torch.zeros(n, model.n_rr) if model.n_rr else None,
    )


def _milliseconds(model: Classifier, n: int, times: int) -> float:
    """Return the median time of a pass over n beats, ms."""
    inputs = _inputs(model, n)
    model(*inputs)
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        model(*inputs)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)
