"""Alarms: sentences that a reader should know before believing a study's tables.

This module computes alarms from trials and floors, `study.reporting.prediction_alarms` from stored
predictions. Alarms decide nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from study.keys import Outcome
from study.reporting.table import interval_text
from study.statistics.findings import Comparison, metric_name, score_name
from study.statistics.rr_use import NO_RELIANCE, RRLoss, RRUse
from study.store.floors import StudyFloor, highest_floor
from study.store.trials import TrialRow
from study.wording import first_few, listing, plural, score_text

ENOUGH_RANK_CORRELATION = 0.6
"""Early stopping can be trusted from this rank correlation of first-rung and final score.

If both scores are normal with this correlation, a rung that keeps a third of 30 configurations
keeps the best with a probability of .84; with a correlation of .3, .59.
"""

ENOUGH_TRIALS = 10
"""With fewer finished trials the correlation says nothing."""

MANY_FAILED = 0.2
"""If a larger share of trials failed, the others are no fair sample of their arms."""


class Severity(StrEnum):
    """How far an alarm reaches."""

    ERROR = "error"
    """The named finding is not a result."""
    WARNING = "warning"
    """A conclusion that looks likely is not supported."""
    NOTE = "note"
    """Mention it beside the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One finding that is wrong, or not shown."""

    severity: Severity
    what: str
    evidence: str
    advice: str

    def __str__(self) -> str:
        """Return the sentence."""
        return f"{self.severity}: {self.what}: {self.evidence}; {self.advice}"


def reliance_alarms(rows: Sequence[TrialRow], can_use_rr: Mapping[str, bool]) -> list[Alarm]:
    """Name arms that get real RR, in channels or a late vector, and do not use it.

    `rows` are trials that may be compared. `can_use_rr` says for each such arm whether RR can
    reach the output at all.
    """
    alarms = []
    blind = [arm for arm, can in can_use_rr.items() if not can]
    trials = {
        arm: [row.metrics for row in rows if row.arm == arm]
        for arm, can in can_use_rr.items()
        if can
    }
    losses = {arm: RRLoss.of(of_arm, "inputs") for arm, of_arm in trials.items()}
    if exact := [arm for arm, loss in losses.items() if loss.use is RRUse.CANNOT]:
        evidence = "permuting it changes no output at all"
        alarms.append(_not_used(Severity.ERROR, exact, evidence))
    if within := [arm for arm, loss in losses.items() if loss.use is RRUse.NO]:
        lost = []
        for arm in within:
            window = RRLoss.of(trials[arm], "window")
            has_window = window.use is not RRUse.ABSENT
            beside = f", and permuting the window {window.text}" if has_window else ""
            of = f" ({arm})" if len(within) > 1 else ""
            lost.append(f"{losses[arm].text}{beside}{of}")
        evidence = (
            f"permuting it loses, within ±{score_text(NO_RELIANCE, digits=2)}, {'; '.join(lost)}"
        )
        alarms.append(_not_used(Severity.WARNING, within, evidence))
    if blind:
        alarms.append(
            Alarm(
                severity=Severity.NOTE,
                what=f"cannot use the RR that they are given: {listing(blind)}",
                evidence="no path leads from it to the output",
                advice="read them as models of the ECG",
            )
        )
    return alarms


def _not_used(severity: Severity, arms: Sequence[str], evidence: str) -> Alarm:
    one = len(arms) == 1
    return Alarm(
        severity=severity,
        what=f"{listing(arms)} {'does' if one else 'do'} not use the RR that "
        f"{'it is' if one else 'they are'} given",
        evidence=evidence,
        advice=f"do not credit {'its score' if one else 'their scores'} to this way of fusing RR",
    )


def rung_alarms(rho: float, n_finished: int) -> list[Alarm]:
    """Warn where early stopping cannot be trusted.

    `rho` is Spearman's correlation of first-rung and final objective; NaN where undefined.
    """
    advice = "do not read pruned configurations as worse: repeat with --scheduler none"
    if n_finished < ENOUGH_TRIALS:
        return [
            Alarm(
                severity=Severity.NOTE,
                what="it is unknown whether early stopping was right",
                evidence=f"finished trials: {n_finished}, of {ENOUGH_TRIALS} that a rank "
                "correlation needs",
                advice=advice,
            )
        ]
    if rho >= ENOUGH_RANK_CORRELATION:
        return []
    return [
        Alarm(
            severity=Severity.WARNING,
            what="early stopping may have stopped the best configurations",
            evidence=f"first-rung and final score have a rank correlation of {score_text(rho)} "
            f"(n = {n_finished}), below {score_text(ENOUGH_RANK_CORRELATION, digits=1)}",
            advice=advice,
        )
    ]


def screening_alarm() -> Alarm:
    """Warn that nothing checks a screening's choice: it trains one trial of each arm in full."""
    return Alarm(
        severity=Severity.NOTE,
        what="it is unknown whether the screening chose each arm's best configuration",
        evidence="it trains one of each arm in full",
        advice="do not read screened configurations as worse: --scheduler none trains them all",
    )


def failure_alarms(rows: Sequence[TrialRow]) -> list[Alarm]:
    """Report how many trials failed, how many diverged, and which arms have no other trial."""
    failed = [row for row in rows if row.outcome is Outcome.FAILED]
    if not failed:
        return []
    diverged = [row for row in failed if "diverged" in row.cause.lower()]
    lost = [
        arm
        for arm in dict.fromkeys(row.arm for row in failed)
        if all(
            row.outcome is Outcome.FAILED
            for row in rows
            if row.arm == arm and row.outcome is not Outcome.SCREENED
        )
    ]
    gone = f", all of {listing(lost)} among them" if lost else ""
    share = len(failed) / len(rows)
    rest = "arms are compared on the remaining trials: " if share < 1 else ""
    return [
        Alarm(
            severity=Severity.ERROR if lost or share > MANY_FAILED else Severity.WARNING,
            what=f"{share:.0%} of the trials failed",
            evidence=f"{len(failed)} of {len(rows)}, {len(diverged)} of these diverged{gone}",
            advice=f"{rest}mend the cause, or narrow the space",
        )
    ]


def floor_alarms(comparison: Comparison) -> list[Alarm]:
    """Name the arms that are not shown to beat the floor in some score, on the same patients."""
    pairs, counts, evidence = comparison.above_floor, [], []
    for quantity in dict.fromkeys([comparison.quantity, "S", "V"]):
        differences = {pair.first: pair.estimates[quantity] for pair in pairs}
        # A difference that is not estimable has no interval, and shows nothing.
        within = {arm: d for arm, d in differences.items() if not d.low > 0}
        if not within:
            continue
        # The arms closest to beating it come first.
        ordered = sorted(within.items(), key=lambda item: -item[1].value)
        texts = [f"{arm} {interval_text(d, signed=True)}" for arm, d in ordered]
        name = score_name(comparison.measure, quantity)
        counts.append(f"{len(within)} of {plural(len(pairs), 'arm')} in {name}")
        evidence.append(f"in {name} by {first_few(texts)}")
    if not counts:
        return []
    return [
        Alarm(
            severity=Severity.WARNING,
            what=f"not shown to beat {pairs[0].second}: {listing(counts)}",
            evidence=f"on the same patients they differ from it {'; '.join(evidence)}",
            advice="do not claim that these arms do more than a linear model",
        )
    ]


def below_floor_alarms(
    scores: Mapping[str, float], floors: Iterable[StudyFloor], objective: str
) -> list[Alarm]:
    """Name the arms that score no higher than the highest floor, where nothing is compared."""
    highest = highest_floor(floors, objective)
    if highest is None:
        return []
    floor = highest.metrics[objective]
    below = [f"{arm} {score_text(value)}" for arm, value in scores.items() if value <= floor]
    if not below:
        return []
    return [
        Alarm(
            severity=Severity.WARNING,
            what=f"no higher than the floor, {highest.words}: {len(below)} of "
            f"{plural(len(scores), 'arm')} in {metric_name(objective)}",
            evidence=f"it scores {score_text(floor)}, {first_few(below)}; they are not "
            "compared on the same patients",
            advice="do not claim that these arms do more than a linear model",
        )
    ]


def in_order(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Return alarms, the most severe first."""
    ranks = list(Severity)
    return sorted(alarms, key=lambda alarm: ranks.index(alarm.severity))


def alarms_text(alarms: Sequence[Alarm]) -> str:
    """Return the alarms as text, as a study prints them at its end."""
    if not alarms:
        return "Alarms: none"
    return "\n".join(["Alarms:", *(f"  {alarm}" for alarm in in_order(alarms))])
