"""Runs a study under Ray Tune.

Each start of the driver is a Ray experiment of its own over what is still owed. Ray brings
placement, retries after lost workers, GPU shares and clusters; what is true is in the ledger.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from ray import tune

from study.errors import UsageError
from study.tuning.driver import Conductor
from study.tuning.ray_adapters import Guarded, Listener, Scheduler, Search, Slots, Until
from study.tuning.ray_session import nodes_alive
from study.tuning.resources import Demand, Resources, plan_resources
from study.tuning.scratch import scratch
from study.tuning.stopping import StopSignal
from study.tuning.trial import FusionTrial, TrialJob

_logger = logging.getLogger(__name__)

MAX_LOST_WORKERS = 2
"""Times that a trial is tried again after its worker was lost."""

NODES_EVERY_S = 2.0
"""Seconds after which a cluster is asked again what nodes it has."""


def slots(resources: Resources, demand: Demand | None) -> Callable[[], int]:
    """Return what counts the trials that may run at once.

    Args:
        resources: What each trial gets, and how many ran at once when the study began.
        demand: What was asked of a cluster, whose nodes come and go; None is a Ray that stays
            as it was started.
    """
    if demand is None:
        return lambda: resources.concurrency
    # What a trial gets was settled at the start; only how often it fits may change.
    asked = replace(
        demand,
        device="cuda" if resources.gpus_per_trial else "cpu",
        gpus_per_trial=resources.gpus_per_trial or None,
    )
    known, due = resources.concurrency, 0.0

    def count() -> int:
        nonlocal known, due
        if time.monotonic() >= due:
            due = time.monotonic() + NODES_EVERY_S
            # Where no trial fits any more, those that are owed wait for a node to come back.
            with suppress(UsageError):
                nodes = [node for node in nodes_alive() if resources.node in ("", *node)]
                known = plan_resources(asked, nodes).concurrency
        return known

    return count


def run_trials(
    conductor: Conductor,
    job: TrialJob,
    resources: Resources,
    *,
    objective: str,
    stop: StopSignal,
    deadline: float | None = None,
    demand: Demand | None = None,
) -> None:
    """Run what the conductor proposes until nothing is left or a stop is signalled.

    Args:
        conductor: Proposes and listens.
        job: What the trials share.
        resources: What each trial gets, and how many run at once.
        objective: Metric that the scheduler looks at.
        stop: Set from outside, or here when the deadline passes.
        deadline: `time.monotonic()` at which the study's time is over.
        demand: What was asked of a cluster, whose nodes come and go; None where they do not.
    """
    # Ray logs a traceback for each lost worker; the conductor says so in a line.
    loud = _logger.isEnabledFor(logging.DEBUG)
    logging.getLogger("ray.tune").setLevel(logging.ERROR if loud else logging.CRITICAL)
    trainable = tune.with_resources(
        tune.with_parameters(FusionTrial, job=job), resources.request()
    )
    guarded = Guarded(conductor)
    with scratch() as folder:
        tuner = tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=Slots(Search(guarded), slots(resources, demand)),
                scheduler=Scheduler(guarded, objective),
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="experiment",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=MAX_LOST_WORKERS),
                checkpoint_config=tune.CheckpointConfig(
                    checkpoint_frequency=0, checkpoint_at_end=False
                ),
                callbacks=[Listener(guarded)],
                stop=Until(guarded, stop, deadline),
                verbose=0,
            ),
        )
        try:
            tuner.fit()
        except Exception:
            if guarded.error is None:
                raise
        finally:
            try:
                conductor.stop(stop.cause or "the driver ended")
            except Exception as error:
                guarded.error = guarded.error or error
        if guarded.error is not None:
            raise guarded.error
