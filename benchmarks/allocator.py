"""What keeping freed memory in a worker is worth: training rate with and without the settings.

  python benchmarks/allocator.py [--rounds 5]

Both sides are whole processes of one thread, in turn, on random beats. The rate is by process
time, so that another busy process disturbs little. Prints one line a side and the ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time

from study.config import LATE_RR_WIDTH, N_SAMPLES, TrialConfig
from study.keys import CLASSES

STEPS = 16


def rate() -> float:
    """Return beats trained per second of process time, default configuration, one thread."""
    import torch

    from study.models.classifier import build_model

    torch.set_num_threads(1)
    config = TrialConfig()
    batch, width = config.train.batch_size, LATE_RR_WIDTH[config.signal.late_rr]
    model = build_model(config.signal, config.model, seed=(0, 0, 0))
    model.set_rr_statistics(torch.zeros(width), torch.ones(width))
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    ecg = torch.randn(batch, N_SAMPLES, generator=generator)
    rr = torch.randn(batch, width, generator=generator)
    label = torch.randint(len(CLASSES), (batch,), generator=generator)

    def steps(count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(ecg, None, rr), label).backward()
            optimiser.step()

    steps(4)
    began = time.process_time()
    steps(STEPS)
    return STEPS * batch / (time.process_time() - began)


def measure(environment: dict[str, str]) -> float:
    """Return the rate of a fresh process with these settings."""
    done = subprocess.run(
        [sys.executable, __file__, "--once"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def main() -> int:
    """Measure both sides in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of processes (default 5)")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(rate())
        return 0

    import torch

    from study.training.engine import WORKER_ENVIRONMENT

    pairs = [(measure({}), measure(WORKER_ENVIRONMENT)) for _ in range(args.rounds)]
    print(f"torch {torch.__version__}, {platform.machine()}, {args.rounds} rounds, beats/s")
    for name, values in zip(("default", "kept"), zip(*pairs, strict=True), strict=True):
        print(
            f"{name:<8} median {statistics.median(values):.0f}"
            f" ({min(values):.0f} to {max(values):.0f})"
        )
    ratios = [kept / default for default, kept in pairs]
    print(
        f"ratio    median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
