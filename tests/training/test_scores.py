"""The score of a trial, against scikit-learn and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from study.keys import CLASSES, OBJECTIVES, database_metric
from study.training.metrics import DECISIONS
from study.training.scores import Scores, rank_within, score

_REFERENCE = {"auprc": reference.average_precision_score, "auroc": reference.roc_auc_score}
_N_SEEDS, _N_FOLDS, _N_RECORDS = 2, 3, 6


class _Case:
    """Random predictions of 6 records in 3 folds, rounded so that scores tie."""

    def __init__(self, seed: int = 0, beats_per_record: tuple[int, ...] = (40, 8, 9, 6)) -> None:
        rng = np.random.default_rng(seed)
        self.label = np.tile(np.repeat(np.arange(4), beats_per_record), _N_RECORDS)
        self.record = np.repeat(np.arange(_N_RECORDS), sum(beats_per_record))
        self.fold = self.record % _N_FOLDS
        chances = rng.dirichlet(np.ones(4), size=(_N_SEEDS, len(self.label)))
        chances[:, np.arange(len(self.label)), self.label] += 0.3
        log_probs = np.log(chances / chances.sum(axis=2, keepdims=True)).round(1)
        self.log_probs: NDArray[np.float32] = log_probs.astype(np.float32)

    def score(self) -> Scores:
        return score(
            self.log_probs,
            self.label,
            self.record,
            self.fold[None],
            record_names=[f"r{r}" for r in range(_N_RECORDS)],
            databases=["one"] * _N_FOLDS + ["two"] * _N_FOLDS,
        )

    def expected(self, name: str, aami_class: int, groups: NDArray[np.int64]) -> float:
        """Mean over groups, then over seeds, of scikit-learn's metric."""
        return float(
            np.mean(
                [
                    _REFERENCE[name](self.label[at] == aami_class, scores[at, aami_class])
                    for scores in self.log_probs
                    for at in (groups == g for g in np.unique(groups[groups >= 0]))
                ]
            )
        )


@pytest.mark.parametrize("name", _REFERENCE)
@pytest.mark.parametrize("seed", range(3))
def test_within_folds_pooled_and_by_patient_equal_scikit_learn(name: str, seed: int) -> None:
    """AUPRC also among the beats of each database, of which each fold has one record."""
    case = _Case(seed, (40, 10, 11, 12))
    values = case.score().values
    first = case.record < _N_FOLDS
    of_databases = {"one": np.where(first, case.fold, -1), "two": np.where(first, -1, case.fold)}
    pooled = np.zeros_like(case.fold)
    for c, aami_class in enumerate(CLASSES):
        for prefix, groups in {"": case.fold, "pooled_": pooled, "patient_": case.record}.items():
            expected = case.expected(name, c, groups)
            assert values[f"val_{prefix}{name}_{aami_class}"] == pytest.approx(expected)
        for database, groups in of_databases.items() if name == "auprc" else ():
            expected = case.expected(name, c, groups)
            assert values[database_metric(database, aami_class)] == pytest.approx(expected)


def test_aggregates_are_means_over_classes() -> None:
    values = _Case().score().values
    of = {c: values[f"val_auprc_{c}"] for c in CLASSES}
    assert values["val_auprc_macro"] == pytest.approx(np.mean(list(of.values())))
    assert values["val_auprc_sv"] == pytest.approx((of["S"] + of["V"]) / 2)
    assert set(OBJECTIVES) <= values.keys()


def test_a_class_counts_in_folds_with_ten_beats() -> None:
    """Fold 0 has 10 S beats, folds 1 and 2 have 9: only fold 0 counts."""
    case = _Case(beats_per_record=(40, 5, 9, 6))
    for record in (1, 2):
        case.label[np.flatnonzero((case.record == record) & (case.label == 1))[0]] = 0
    at = case.fold == 0
    expected = np.mean(
        [
            reference.average_precision_score(case.label[at] == 1, scores[at, 1])
            for scores in case.log_probs
        ]
    )
    assert case.score().values["val_auprc_S"] == pytest.approx(expected)


def test_every_undefined_value_has_a_reason_and_no_other() -> None:
    for beats in [(40, 8, 9, 6), (40, 8, 9, 4), (40, 2, 9, 0)]:
        scores = _Case(beats_per_record=beats).score()
        undefined = {name for name, value in scores.values.items() if np.isnan(value)}
        assert undefined == scores.undefined.keys()
    reasons = _Case(beats_per_record=(40, 8, 9, 4)).score().undefined
    assert reasons["val_auprc_F"] == "no fold has 10 or more F beats and others"
    assert reasons["val_auprc_macro"] == "undefined for F"
    assert reasons["val_patient_auroc_F"] == "no record has 5 or more F beats and others"
    assert "val_auprc_sv" not in reasons
    assert "val_pooled_auprc_F" not in reasons
    reasons = _Case(beats_per_record=(40, 8, 9, 0)).score().undefined
    assert reasons["val_pooled_auprc_F"] == "no F beats, or no others"
    assert reasons["val_se_F"] == "a seed has no F beats, true or decided, to divide by"


def test_spread_over_seeds_and_folds() -> None:
    case = _Case()
    values = case.score().values
    ranked = rank_within(case.log_probs, case.label, case.fold[None], n_groups=3, min_beats=10)
    sv = ranked.values["auprc"][:, :, 1:3].mean(axis=2)  # [S, folds]
    assert values["val_auprc_sv_seed_sd"] == pytest.approx(np.std(sv.mean(axis=1), ddof=1))
    assert values["val_auprc_sv_fold_sd"] == pytest.approx(np.std(sv.mean(axis=0), ddof=1))
    case.log_probs = case.log_probs[:1]
    reason = case.score().undefined["val_auprc_sv_seed_sd"]
    assert reason == "1 seed(s) with every class defined: no spread"


def test_each_seed_is_scored_in_the_folds_of_its_partition() -> None:
    case, names = _Case(), [f"r{r}" for r in range(_N_RECORDS)]
    folds = np.stack([case.fold, case.record // 2])
    alone = [
        score(case.log_probs[s : s + 1], case.label, case.record, folds[[s]], record_names=names)
        for s in range(2)
    ]
    both = score(case.log_probs, case.label, case.record, folds, record_names=names)
    for name in OBJECTIVES:
        of_seeds = [one.values[name] for one in alone]
        assert both.values[name] == pytest.approx(np.mean(of_seeds), abs=1e-12)
        assert both.values[f"{name}_seed_sd"] == pytest.approx(np.std(of_seeds, ddof=1))
    rows = [{**row, "partition": s} for s, one in enumerate(alone) for row in one.per_fold]
    np.testing.assert_equal(both.per_fold, rows)
    assert both.per_record[4]["fold"] == "1 2"


def test_decisions_are_pooled_over_folds_and_the_loss_is_the_mean_log_probability() -> None:
    case = _Case()
    scores = case.score()
    decided = case.log_probs.argmax(axis=2)
    expected = sum(reference.confusion_matrix(case.label, d) for d in decided)
    assert np.array_equal(scores.confusion, expected)
    of_seeds = []
    for d in decided:
        ppv, se, f1, _ = reference.precision_recall_fscore_support(case.label, d)
        sp = [reference.recall_score(case.label != c, d != c) for c in range(4)]
        of_seeds.append([f1, se, ppv, sp])
    ours = [[scores.values[f"val_{name}_{c}"] for c in CLASSES] for name in DECISIONS]
    np.testing.assert_allclose(ours, np.mean(of_seeds, axis=0))
    log_probs = case.log_probs[:, np.arange(len(case.label)), case.label]
    assert scores.values["val_loss"] == pytest.approx(-np.mean(log_probs))
