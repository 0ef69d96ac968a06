"""All arms' scores under all weightings of the records, and the results read from them.

Shapes: A arms, W resamples, G records, C classes, Q quantities (see `QUANTITIES`), F folds,
D draws, S seeds, P partitions into folds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from study.beats import mean_of_defined, ratio, scorable
from study.keys import BARE_ECG, CLASSES, MIN_BEATS_OF_RECORD
from study.statistics.choice import choose
from study.statistics.estimates import (
    class_facts,
    estimate,
    not_estimable,
    spread,
    undercovered,
    with_means,
)
from study.statistics.findings import (
    QUANTITIES,
    ArmResult,
    Choice,
    ClassFacts,
    Contrast,
    Estimate,
    NonInferiority,
    RecordRow,
    classes_in,
    parts_of,
    score_name,
)
from study.statistics.predictions import ArmRuns, Beats
from study.statistics.resampling import SeedShares, WeightedScores, draw_patients
from study.statistics.swapping import SwapTest, draw_swaps, swap_test
from study.statistics.weighted_metrics import MEASURES, Float, Ranking

KEPT_CLASSES = ("N", "V")
"""Classes that ECG alone ranks well, and that a fusion must not lose."""

POWER = 0.8

# The order of the weightings of records: as they are, without the largest of each class, each by
# itself; resamples of patients follow.
_AS_THEY_ARE = slice(0, 1)
_WITHOUT_LARGEST = slice(1, 1 + len(CLASSES))
_FIRST_RECORD = 1 + len(CLASSES)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoredArms:
    """The scores of arms that are comparable (see `check_comparable`); `of` computes them."""

    beats: Beats  # what the arms predict
    arms: Sequence[ArmRuns]  # their predictions
    measure: str  # of the objective
    quantity: str  # of the objective
    facts: tuple[ClassFacts, ...]  # what the study has of each class
    scores: WeightedScores  # under all weightings, in the order above
    values: Float  # [A, Q] as they are
    resampled: Float  # [A, W, Q] in resamples of patients and seeds
    in_bag: Float  # [A, W, Q] in the same resamples of patients, seeds averaged
    # [A, W, Q] on the patients that these left out; classes that are not in the objective are NaN,
    # and W is 0 unless a best arm is to be named
    out_of_bag: Float

    @classmethod
    def of(
        cls,
        beats: Beats,
        arms: Sequence[ArmRuns],
        objective: str,
        resamples: int,
        seed: int,
        progress: Callable[[str], None] | None = None,
        *,
        choosing: bool = True,
    ) -> ScoredArms:
        """Score arms under every weighting that a comparison needs; arguments as for `compare`."""
        rng = np.random.default_rng([seed, 0])
        measure, quantity = parts_of(objective)
        facts = class_facts(beats, measure)
        n_records = len(beats.record_names)
        drawn = draw_patients(beats, resamples, rng)
        without = np.ones((len(CLASSES), n_records))
        for c, fact in enumerate(facts):
            without[c, [name == fact.largest_record for name in beats.record_names]] = 0.0
        weights = np.vstack([np.ones((1, n_records)), without, np.eye(n_records), drawn])
        scores = WeightedScores.of(beats, arms, weights, measure, progress)
        inside = slice(len(weights) - resamples, None)
        left_out = scores.by_class(slice(0))
        if choosing:
            classes = classes_in(quantity, beats.macro)
            outside = WeightedScores.of(beats, arms, (drawn == 0) * 1.0, measure, classes=classes)
            left_out = outside.by_class()
        n_seeds = len(np.unique(arms[0].seed))
        seeds = SeedShares.drawn(beats, n_seeds, resamples, rng)
        return cls(
            beats=beats,
            arms=arms,
            measure=measure,
            quantity=quantity,
            facts=facts,
            scores=scores,
            values=with_means(scores.by_class(_AS_THEY_ARE), beats.macro)[:, 0],
            resampled=with_means(scores.by_class(inside, seeds), beats.macro),
            in_bag=with_means(scores.by_class(inside), beats.macro),
            out_of_bag=with_means(left_out, beats.macro),
        )

    @property
    def objective(self) -> Float:
        """The objective of each arm, [A]."""
        return self._of(self.values)

    @property
    def _fault(self) -> str:
        """Why the objective is not estimable; empty if it is."""
        return not_estimable(self.quantity, self.facts, self.beats.macro)

    def _of(self, values: Float) -> Float:
        return np.asarray(values[..., QUANTITIES.index(self.quantity)])

    def _named(self, values: Float) -> dict[str, float]:
        return dict(zip(QUANTITIES, values.tolist(), strict=True))

    def _estimates(
        self, values: Float, resampled: Float, *, own: bool = False
    ) -> dict[str, Estimate]:
        """Return estimates of all quantities from [Q] values and [W, Q] resamples.

        `own` says that they are an arm's own scores, and not differences.
        """
        n_folds, macro = self.beats.n_folds, self.beats.macro
        return {
            name: estimate(
                float(values[q]),
                resampled[:, q],
                not_estimable(name, self.facts, macro),
                undercovered(name, self.facts, n_folds, macro) if own else "",
            )
            for q, name in enumerate(QUANTITIES)
        }

    def _index(self, name: str) -> int:
        return [arm.name for arm in self.arms].index(name)

    def arm(self, index: int) -> ArmResult:
        """Return what one arm scored."""
        arm = self.arms[index]
        values, resampled = self.values[index], self.resampled[index]
        pooled = self._pooled(arm)
        of_records = mean_of_defined(self._record_scores(index), axis=0)
        without = self.scores.by_class(_WITHOUT_LARGEST)[index]
        return ArmResult(
            name=arm.name,
            estimates=self._estimates(values, resampled, own=True),
            **self._spreads(index),
            without_largest=self._named(with_means(np.diagonal(without), self.beats.macro)),
            patient_mean=self._named(with_means(of_records, self.beats.macro)),
            pooled=self._named(pooled),
            gap=self._named(pooled - values),
            trials=arm.trials,
            beats_trained=arm.beats_trained,
        )

    def _spreads(self, index: int) -> dict[str, float]:
        """Return the spread of an arm's objective over runs and over folds, each by itself."""
        folds = range(len(self.scores.values))
        counted = np.stack([self.scores.counted(fold, _AS_THEY_ARE)[0] for fold in folds])
        # [F, D, S, C]: the folds of all partitions, each with the seeds of its own
        values = np.stack(
            [
                of_fold[index][:, :, combination]
                for of_fold, combination in zip(
                    self.scores.values, self.scores.combination[0], strict=True
                )
            ]
        )
        values = np.where(counted[:, None, None], values, np.nan)
        by_partition = []
        for of_partition in map(list, self.scores.partitions):
            counts = counted[of_partition]
            total = np.nansum(values[of_partition], axis=0)
            by_partition.append(ratio(total, counts.sum(axis=0)))
        runs = np.stack(by_partition)  # [P, D, S, C]

        def over(scores: Float) -> float:
            return spread(self._of(with_means(scores, self.beats.macro)))

        return {
            # Variances average, not their roots.
            "sd_seeds": math.sqrt(np.mean([over(seeds) ** 2 for seeds in runs.mean(axis=1)])),
            "sd_partitions": over(runs.mean(axis=(1, 2))),
            "sd_draws": over(runs.mean(axis=0).mean(axis=1)),
            "sd_folds": over(values.mean(axis=(1, 2))),
        }

    def _pooled(self, arm: ArmRuns) -> Float:
        """Return the scores of all folds' predictions together, [Q]."""
        rows = np.flatnonzero(self.beats.held_out[self.beats.record])
        one_record, unweighted = np.zeros(len(rows), dtype=np.int64), np.ones((1, 1))
        by_class = np.full(len(CLASSES), np.nan)
        for c in range(len(CLASSES)):
            positive = self.beats.label[rows] == c
            if positive.any():
                scores = [
                    MEASURES[self.measure](
                        Ranking.of(run[rows, c], positive, one_record, 1), unweighted
                    )
                    for run in arm.log_probs
                ]
                by_class[c] = np.mean(scores)
        return with_means(by_class, self.beats.macro)

    def _record_scores(self, index: int) -> Float:
        """Return an arm's scores within each record, [G, C]; NaN where it has too few beats."""
        counts = self.beats.counts
        scores = np.full(counts.shape, np.nan)
        enough = scorable(counts, MIN_BEATS_OF_RECORD)
        for g in np.flatnonzero(self.beats.held_out):
            alone = slice(_FIRST_RECORD + g, _FIRST_RECORD + g + 1)
            folds = [
                of_partition[of_record[g]]
                for of_partition, of_record in zip(
                    self.scores.partitions, self.beats.folds_of_record, strict=True
                )
            ]
            by_partition = [self.scores.by_fold(fold, alone)[index, 0] for fold in folds]
            scores[g] = np.mean(by_partition, axis=0)
        return np.where(enough, scores, np.nan)

    def records(self, n_arms: int) -> Iterator[RecordRow]:
        """Yield every record's own scores under the first arms, arm by arm."""
        for index, arm in enumerate(self.arms[:n_arms]):
            scores = self._record_scores(index)
            for g in np.flatnonzero(self.beats.held_out):
                yield RecordRow(
                    arm=arm.name,
                    record=self.beats.record_names[g],
                    patient=self.beats.patient_of_record[g],
                    folds=tuple(of_record[g] for of_record in self.beats.folds_of_record),
                    beats=dict(zip(CLASSES, self.beats.counts[g].tolist(), strict=True)),
                    scores=dict(zip(CLASSES, scores[g].tolist(), strict=True)),
                )

    def contrast(self, first: str, second: str, *, primary: bool) -> Contrast:
        """Return the paired difference of two arms, not tested."""
        left, right = self._index(first), self._index(second)
        return Contrast(
            first=first,
            second=second,
            primary=primary,
            estimates=self._estimates(
                self.values[left] - self.values[right],
                self.resampled[left] - self.resampled[right],
            ),
            p=np.nan,
            p_adjusted=np.nan,
            detectable=np.nan,
        )

    def tested(
        self,
        contrasts: Sequence[tuple[str, str]],
        permutations: int,
        seed: int,
        progress: Callable[[str], None] | None,
    ) -> SwapTest | None:
        """Test the primary contrasts; None where the objective is not estimable."""
        if not contrasts or self._fault:
            return None
        swaps = draw_swaps(self.beats, permutations, np.random.default_rng([seed, 1]))
        indices = [(self._index(first), self._index(second)) for first, second in contrasts]
        test = swap_test(
            self.beats,
            [(self.arms[first], self.arms[second]) for first, second in indices],
            classes=classes_in(self.quantity, self.beats.macro),
            measure=self.measure,
            swaps=swaps,
            progress=progress,
        )
        resampled = self._of(self.resampled)
        errors = [spread(resampled[first] - resampled[second]) for first, second in indices]
        return test.stretched(np.asarray(errors))

    def primary(
        self, contrasts: Sequence[tuple[str, str]], tested: SwapTest | None
    ) -> Iterator[Contrast]:
        """Yield the primary contrasts with what their test found."""
        for k, pair in enumerate(contrasts):
            contrast = self.contrast(*pair, primary=True)
            if tested is not None:
                # Such a difference is beyond what swaps reach in 80 % of studies like this one.
                error = contrast.estimates[self.quantity].se
                detectable = tested.critical[k] + NormalDist().inv_cdf(POWER) * error
                contrast = replace(
                    contrast,
                    p=float(tested.p[k]),
                    p_adjusted=float(tested.p_adjusted[k]),
                    detectable=float(detectable),
                )
            yield contrast

    def non_inferiority(self, margin: float, arms: Sequence[ArmRuns]) -> Iterator[NonInferiority]:
        """Yield each of some arms with real RR against the bare ECG of its window."""
        bare = {arm.window: arm.name for arm in arms if (arm.input, arm.fusion) == BARE_ECG}
        for arm in arms:
            if arm.input == "ecg" or arm.placebo or arm.window not in bare:
                continue
            estimates = self.contrast(arm.name, bare[arm.window], primary=False).estimates
            differences = {name: estimates[name] for name in KEPT_CLASSES}
            yield NonInferiority(
                arm=arm.name,
                reference=bare[arm.window],
                differences=differences,
                verdicts={
                    name: _verdict(difference, margin) for name, difference in differences.items()
                },
            )

    def choice(self, among: Sequence[int]) -> Choice | None:
        """Return the best of some arms and its alternatives."""
        chosen = list(among)
        resampled = self._of(self.resampled)[chosen]
        return choose(
            [self.arms[index] for index in chosen],
            self.objective[chosen],
            np.full_like(resampled, np.nan) if self._fault else resampled,
            self._of(self.in_bag)[chosen],
            self._of(self.out_of_bag)[chosen],
        )

    def notes(self) -> Iterator[str]:
        """Yield what limits the intervals and tests of these arms."""
        if self._fault:
            name = score_name(self.measure, self.quantity)
            yield f"{name} is {self._fault}: nothing is tested"
        if len(np.unique(self.arms[0].seed)) == 1:
            yield "one seed: intervals and p leave out what another seed would change"
        patients = np.asarray(self.beats.patient_of_record)
        single = [
            str(held.fold)
            for held in self.beats.folds
            if len(set(patients[held.records])) == 1 and self.beats.n_partitions == 1
        ]
        if single:
            yield f"fold {', '.join(single)} has one patient, who is in every resample"


def _verdict(difference: Estimate, margin: float) -> str:
    if np.isnan(difference.low):
        return "not estimable"
    if difference.low > -margin:
        return "kept"
    return "lost" if difference.high < -margin else "not shown"
