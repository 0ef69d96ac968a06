"""What a study's trials and floors raise an alarm for, sentence by sentence."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from study.keys import MAX_CHANGE, Outcome, reliance
from study.reporting.alarms import (
    ENOUGH_RANK_CORRELATION,
    Alarm,
    Severity,
    failure_alarms,
    reliance_alarms,
    rung_alarms,
)
from study.store.trials import TrialRow
from tests.builders import trial_row
from tests.statistics.test_rr_use import lost


def relying(number: int, s: float, v: float, **more: float) -> TrialRow:
    """A trial that loses this much when the RR in its inputs is permuted."""
    return trial_row(number, metrics={**lost(s, v, spread=0.002), **more})


def said(alarms: list[Alarm]) -> list[str]:
    return [str(alarm) for alarm in alarms]


def test_an_arm_that_loses_nothing_does_not_use_its_rr() -> None:
    rows = [relying(0, 0.001, -0.003), relying(1, 0.003, 0.001)]
    assert said(reliance_alarms(rows, {"film": True})) == [
        "warning: film does not use the RR that it is given: permuting it loses, within ±.01, "
        "+.002 of AUPRC S and -.001 of AUPRC V; do not credit its score to this way of fusing RR"
    ]
    window = {reliance("window", "S"): 0.21, reliance("window", "V"): 0.04}
    rows = [relying(0, 0.0, 0.0001, **window), replace(rows[0], arm="concat")]
    (alarm,) = reliance_alarms(rows, {"film": True, "concat": True})
    assert alarm.what == "film and concat do not use the RR that they are given"
    assert alarm.evidence.endswith(
        "within ±.01, .000 of AUPRC S and .000 of AUPRC V, and permuting the window +.210 of "
        "AUPRC S and +.040 of AUPRC V (film); +.001 of AUPRC S and -.003 of AUPRC V (concat)"
    )
    blind = relying(0, 0.0, 0.0, **{reliance("inputs", MAX_CHANGE): 0.0})
    (alarm,) = reliance_alarms([blind], {"film": True})
    assert alarm.severity is Severity.ERROR
    assert alarm.evidence == "permuting it changes no output at all"
    assert reliance_alarms([relying(0, 0.05, 0.0)], {"film": True}) == []


def test_an_arm_that_cannot_use_rr_is_told_apart_and_never_alarmed() -> None:
    rows = [relying(0, 0.0, 0.0)]
    assert said(reliance_alarms(rows, {"film": False})) == [
        "note: cannot use the RR that they are given: film: no path leads from it to the output; "
        "read them as models of the ECG"
    ]
    assert reliance_alarms(rows, {}) == [], "given no RR, or a placebo"
    assert reliance_alarms([], {"film": True}) == [], "no trial may be compared"


def test_rungs_that_do_not_order_are_told() -> None:
    assert said(rung_alarms(0.53, 18)) == [
        "warning: early stopping may have stopped the best configurations: first-rung and final "
        "score have a rank correlation of .530 (n = 18), below .6; do not read pruned "
        "configurations as worse: repeat with --scheduler none"
    ]
    assert rung_alarms(0.6, 18) == []
    assert rung_alarms(math.nan, 18)[0].severity is Severity.WARNING
    (few,) = rung_alarms(0.9, 9)
    assert few.severity is Severity.NOTE
    assert few.evidence == "finished trials: 9, of 10 that a rank correlation needs"


@pytest.mark.parametrize(("rho", "kept"), [(ENOUGH_RANK_CORRELATION, 0.84), (0.3, 0.59)])
def test_the_limit_of_the_rank_correlation_has_its_reason(rho: float, kept: float) -> None:
    """Normal scores of 30 configurations; Pearson's r from Spearman's by Pearson 1907, 2 sin."""
    rng = np.random.default_rng(0)
    r = 2 * math.sin(math.pi * rho / 6)
    final = rng.normal(size=(20_000, 30))
    first = r * final + math.sqrt(1 - r**2) * rng.normal(size=final.shape)
    of_best = np.take_along_axis(first, final.argmax(axis=1)[:, None], axis=1)
    assert np.mean((first > of_best).sum(axis=1) < 10) == pytest.approx(kept, abs=0.01)


def test_failed_trials_are_shares_with_those_that_diverged() -> None:
    rows = [trial_row(number) for number in range(9)]
    cause = "DivergedError: diverged: training loss not finite in epoch 2"
    one = [*rows, trial_row(9, outcome=Outcome.FAILED, cause=cause)]
    assert failure_alarms(rows) == []
    assert said(failure_alarms(one)) == [
        "warning: 10% of the trials failed: 1 of 10, 1 of these diverged; arms are compared on "
        "the remaining trials: mend the cause, or narrow the space"
    ]
    # One in four is a selection.
    failed = [trial_row(number, outcome=Outcome.FAILED) for number in range(9, 12)]
    (alarm,) = failure_alarms([*rows, *failed])
    assert (alarm.severity, alarm.what) == (Severity.ERROR, "25% of the trials failed")
    assert failure_alarms(failed)[0].advice == "mend the cause, or narrow the space"
    # An arm that lost all its trials in full, one of which was screened before.
    lost = trial_row(9, "concat", outcome=Outcome.FAILED, cause="ValueError: no")
    (alarm,) = failure_alarms([*rows, trial_row(10, "concat", outcome=Outcome.SCREENED), lost])
    assert alarm.severity is Severity.ERROR
    assert alarm.evidence == "1 of 11, 0 of these diverged, all of concat among them"
