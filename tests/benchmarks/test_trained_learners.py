"""The simulation of equal learners trains them, and prints a row for each number of partitions."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from benchmarks.trained_learners import beats_of, features, learned, table


def test_a_learner_is_a_linear_discriminant_of_the_beats_that_train_it() -> None:
    beats = beats_of(2)
    assert beats.folds_of_record[0] != beats.folds_of_record[1]
    x = features(beats, 4, np.random.default_rng(0))
    training = beats.fold[1] != 2
    weights = learned(x, beats, training)
    reference = LinearDiscriminantAnalysis(solver="lsqr").fit(x[training], beats.label[training])
    logits = x[~training][:50] @ weights[:-1] + weights[-1]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert probabilities == pytest.approx(reference.predict_proba(x[~training][:50]), abs=1e-9)


def test_the_table_has_a_row_for_each_number_of_partitions() -> None:
    *_, one, two = [row.split(" | ") for row in table(2, [1, 3])]
    assert (one[0], one[1], two[0]) == ("| 1", "2", "| 3")
    assert 0.2 < float(one[4]) < 0.7 < float(one[5].rstrip(" |")) + 0.2, "about as DS1's arms"
