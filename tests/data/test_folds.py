"""Folds: whole patients, even classes, the same every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from study.data.catalogue import DS1, PUBLISHED_VALIDATION
from study.data.folds import folds_table, make_folds, partitioned, published_holdout
from study.errors import DataError
from study.keys import MIN_CLASS_BEATS
from tests.builders import bare_beats
from tests.data.test_catalogue import EXPECTED

COUNTS = np.array([[int(n) for n in EXPECTED[name].split("/")[:4]] for name in DS1])
"""N, S, V, F annotations of DS1's records, in the order of DS1."""

BEATS = bare_beats(COUNTS, DS1)


@pytest.mark.parametrize("n_folds", [2, 3, 5, 10, 22])
@pytest.mark.parametrize("partition_seed", [0, 1])
def test_every_record_validates_in_exactly_one_fold(n_folds: int, partition_seed: int) -> None:
    folds = make_folds(DS1, COUNTS, n_folds, partition_seed)
    assert len(folds) == n_folds
    assert all(folds.validation)
    assert sorted(name for fold in folds.validation for name in fold) == sorted(DS1)
    (of_beats,) = folds.of_beats(BEATS)
    for fold, (train, validation) in enumerate(folds.splits(BEATS)):
        np.testing.assert_array_equal(validation, np.flatnonzero(of_beats == fold))
        np.testing.assert_array_equal(train, np.flatnonzero(of_beats != fold))
        assert {DS1[r] for r in BEATS.record[validation]} == set(folds.validation[fold])


def test_five_folds_are_as_even_as_208_and_209_allow() -> None:
    folds = make_folds(DS1, COUNTS)
    (counts,) = folds.counts(BEATS)
    n, s, v, f = counts.T
    assert counts.sum(axis=0).tolist() == COUNTS.sum(axis=0).tolist()
    assert n.max() < 1.25 * n.min()
    # Without its dominating record a class is shared by four folds.
    assert s.max() == 383 + 4
    assert np.sort(s)[:-1].min() > 0.7 * (944 - 383) / 4
    assert np.sort(v)[:-1].min() > 0.9 * (3788 - 992) / 4
    # 42 F beats outside 208: three folds can have ten, the last has the rest.
    assert (f >= MIN_CLASS_BEATS).sum() == 4
    assert not any({"208", "209"} <= set(fold) for fold in folds.validation)


def test_fingerprint_tells_folds_seeds_and_records_apart_but_not_their_order() -> None:
    seeds = [make_folds(DS1, COUNTS, 5, seed).fingerprint for seed in range(6)]
    assert len(set(seeds)) > 4
    assert seeds[0] == make_folds(DS1[::-1], COUNTS[::-1]).fingerprint
    assert seeds[1] == make_folds(DS1, COUNTS, 5, 1).fingerprint
    assert seeds[0] != make_folds(DS1, COUNTS, 4).fingerprint
    published = published_holdout(DS1).fingerprint
    assert published not in seeds
    assert published == published_holdout(DS1[::-1]).fingerprint
    assert published != published_holdout(DS1[1:]).fingerprint


def test_each_partition_shares_all_records_out_anew() -> None:
    folds = partitioned(DS1, COUNTS, n_folds=5, n_partitions=3, first_seed=0, patients={})
    alone = [make_folds(DS1, COUNTS, 5, seed, {}) for seed in range(3)]
    assert (len(folds), folds.name) == (5, "5-fold, partition seeds 0, 1, 2")
    assert [*map(list, folds.partitions)] == [list(one.validation) for one in alone]
    expected = [one.of_beats(BEATS)[0] for one in alone]
    np.testing.assert_array_equal(folds.of_beats(BEATS), expected)
    np.testing.assert_array_equal(folds.counts(BEATS), [one.counts(BEATS)[0] for one in alone])
    assert folds.fingerprint not in {one.fingerprint for one in alone}
    assert "2/4" in folds_table(folds, BEATS)
    one = partitioned(DS1, COUNTS, n_folds=5, n_partitions=1, first_seed=1, patients={})
    assert one == alone[1]
    with pytest.raises(DataError, match="partitions: 3 records allow 1 different ones into 3 fol"):
        partitioned(DS1[:3], COUNTS[:3], n_folds=3, n_partitions=2, first_seed=0, patients={})


def test_records_of_a_patient_share_a_fold() -> None:
    patients = {"101": "p", "108": "p", "230": "p", "209": "q", "208": "q"}
    for seed in range(5):
        for fold in make_folds(DS1, COUNTS * [1, 1, 1, seed % 2], 4, seed, patients).validation:
            assert len({"101", "108", "230"} & set(fold)) in (0, 3)
            assert len({"208", "209"} & set(fold)) in (0, 2)


def test_each_of_several_databases_is_spread_evenly() -> None:
    """The second has S where the first has V, so that all beats together could hide it."""
    names = [*DS1, *(f"8{name}" for name in DS1)]
    counts = np.concatenate([COUNTS, COUNTS[:, [0, 2, 1, 3]]])
    of_second = np.repeat([False, True], len(DS1))
    folds = make_folds(names, counts, databases=of_second.astype(str).tolist())
    assert make_folds(names, counts).fingerprint != folds.fingerprint
    for of_database in (~of_second, of_second):
        of_fold = [np.isin(names, fold) & of_database for fold in folds.validation]
        n, s, v, _ = np.sort([counts[records].sum(axis=0) for records in of_fold], axis=0).T
        assert n[-1] < 1.3 * n[0]
        # Without 209 and 208, which one fold has.
        assert min(s[0], v[0]) > 0.6 * (944 - 383) / 4


def test_more_folds_than_patients() -> None:
    for n_folds, patients, message in (
        (1, {}, "folds: must be in [2, 3] for 3 patients, got 1"),
        (3, {"a": "p", "b": "p"}, "folds: must be in [2, 2] for 2 patients, got 3"),
        (2, {"a": "p", "b": "p", "c": "p"}, "folds: need 2 or more patients, got 1"),
    ):
        with pytest.raises(DataError) as caught:
            make_folds(["a", "b", "c"], COUNTS[:3], n_folds, patients=patients)
        assert str(caught.value) == message


def test_published_holdout() -> None:
    folds = published_holdout(DS1)
    assert (folds.name, folds.validation) == ("published", (PUBLISHED_VALIDATION,))
    ((train, validation),) = folds.splits(BEATS)
    assert len({*BEATS.record[train]}) == 17
    assert folds.counts(BEATS).tolist() == [[[9424, 247, 371, 20]]]
    assert len(validation) == 9424 + 247 + 371 + 20
    assert set(folds.of_beats(BEATS)[0]) == {-1, 0}
    never = "of F (373 of 415): it never validates, the folds share 42"
    assert never in folds_table(folds, BEATS)


@pytest.mark.parametrize("names", [("101", "114"), PUBLISHED_VALIDATION])
def test_published_holdout_needs_its_records_and_others(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError) as caught:
        published_holdout(names)
    assert str(caught.value) == (
        "folds 'published': needs DS1, with validation records 114, 124, 205, 207, 220; "
        f"got {', '.join(names)}"
    )


def test_table_of_folds() -> None:
    names = ("a", "b", "c")
    counts = np.array([[100, 20, 30, 2], [90, 20, 30, 40], [80, 21, 25, 0]])
    folds = make_folds(names, counts, 3)
    lines = folds_table(folds, bare_beats(counts, names)).splitlines()
    assert lines == [
        f"folds: 3-fold, partition seed 0 ({folds.fingerprint}), validation beats",
        "fold    N   S   V   F  records",
        "   0  100  20  30   2  a",
        "   1   90  20  30  40  b",
        "   2   80  21  25   0  c",
        " all  270  61  85  42",
        "F: fewer than 10 beats in fold 0 (2), 2 (0): not counted in the score of F",
        "F: record b holds 95% of F (40 of 42): all other folds share 2, and fold 1 trains on no "
        "more",
    ]
    twice = replace(folds, validation=folds.validation * 2, n_partitions=2)
    last = folds_table(twice, bare_beats(counts, names)).splitlines()[-1]
    assert last.endswith("and folds 0/1 and 1/1 train on no more")
