"""RR features against rhythms worked out by hand, and permutations within records."""

from __future__ import annotations

import numpy as np
import pytest

from study.data import rr
from study.data.windows import Causality
from study.keys import CLASSES

# At 1000 Hz a sample is a millisecond: intervals 800, 800, 400 (premature), 1200 (pause), 800.
RHYTHM = [100, 900, 1700, 2100, 3300, 4100]
PREMATURE = 3


@pytest.mark.parametrize(
    ("beat", "name", "expected"),
    [
        # pre 400, post 1200, local = running mean (800 + 800 + 400) / 3, global 4000 / 5.
        (PREMATURE, "published7", [400, 1200, 2000 / 3, 1 / 3, 800, -400, 0.5]),
        (PREMATURE, "ratio2_so_far", [0.6, 0.6]),
        (PREMATURE, "ratio2_record", [0.5, 0.6]),
        # Deviations of 800, 800, 400 from their mean: 400/3, 400/3, -800/3.
        (PREMATURE, "causal", [400, 0.6, 0.6, 0.5, 0.5, np.sqrt(2 * 400**2 / 9) / (2000 / 3)]),
        (PREMATURE + 1, "published7", [1200, 800, 800, 1.5, 800, 400, 1.5]),
        # 400 over local 2000/3, post 1200 and 800 twice before; 1200 over local and the next 800.
        (PREMATURE, "ratio7", [0.6, 1 / 3, 0.5, 1.8, 5 / 6, 0.5, 1.5]),
        # After 400 and 800; the last interval, 800, stands in for the one after it.
        (PREMATURE + 1, "ratio7", [1.5, 1.5, 3, 1, 1, 1.5, 1]),
        # 400 and 1200 over 2000/3, then over 800; 400 over 1200, 2000/3, 800 and 800.
        (PREMATURE, "log8", np.log([0.6, 1.8, 0.5, 1.5, 1 / 3, 0.6, 0.5, 0.5])),
        # The median of 800, 800, 400 is 800, and that of their deviations 0, 0, 400 is 0.
        (PREMATURE, "log_causal", [*np.log([0.6, 0.6, 0.5, 0.5, 0.5]), 0]),
        # The first interval stands in for the one three before; post 1200, next post 800.
        (PREMATURE, "log_robust", [0, 0, 0, *np.log([0.5, 1.5, 1]), 0]),
        # The median of 800, 800, 400, 1200 is 800, of their deviations 0, 0, 400, 400 it is 200.
        (PREMATURE + 1, "log_robust", [0, 0, *np.log([0.5, 1.5, 1, 1]), 0.25]),
        # 1200 over itself, the running mean 800; 400 and 800 before it; sd of 8, 8, 4, 12.
        (PREMATURE + 1, "causal", [1200, 1.5, 1.5, 3, 1.5, np.sqrt(80_000) / 800]),
    ],
)
def test_premature_beat_and_the_next_by_hand(beat: int, name: str, expected: list[float]) -> None:
    np.testing.assert_allclose(rr.rr_features(RHYTHM, 1000)[name][beat], expected, rtol=1e-6)


def test_near_the_ends_of_a_record() -> None:
    """The first interval stands in for those before it; two beats lack one."""
    sets = rr.rr_features(RHYTHM, 1000)
    np.testing.assert_allclose(sets["causal"][1], [800, 1, 1, 1, 1, 0])
    for rows in sets.values():
        assert np.isnan(rows[0]).all()
        assert np.isfinite(rows[1:-1]).all()
    assert np.isnan(sets["published7"][-1, [1, 3]]).all()
    # 100 ms before 500 ms: the log of 1/5 is clipped.
    pause = rr.rr_features([0, 1000, 1100, 1600], 1000)["log8"][2]
    assert pause[4] == pytest.approx(-np.log(4))
    assert np.isfinite(sets["causal"][-1]).all()
    for beats in ([], [5]):
        for name, rows in rr.rr_features(beats, 360).items():
            assert rows.shape == (len(beats), len(rr.FEATURES[name]))
            assert np.isnan(rows).all()


def test_a_gap_is_no_interval_and_enters_no_mean() -> None:
    """Beats every 288 samples for 30 minutes, of which minutes 10 to 20 are not marked."""
    beats = np.arange(0, 30 * 60 * 360, 288)
    marked = beats[(beats <= 10 * 60 * 360) | (beats >= 20 * 60 * 360)]
    last = int(np.argmax(np.diff(marked)))
    for name, rows in rr.rr_features(marked, 360).items():
        steady = np.delete(np.arange(1, len(marked) - 1), [last - 1, last])
        np.testing.assert_allclose(rows[steady], np.tile(rows[1], (len(steady), 1)), atol=1e-4)
        assert np.isnan(rows[last + 1]).all()
        # The beat before the gap lacks what looks ahead.
        ahead = ["post_rr" in feature.name for feature in rr.FEATURES[name]]
        assert np.isnan(rows[last]).tolist() == ahead
    published7 = rr.rr_features(marked, 360)["published7"]
    np.testing.assert_allclose(published7[1], [800, 800, 800, 1, 800, 0, 1])
    # A pause of 6 s is none.
    assert np.isfinite(rr.rr_features([0, 360, 360 + 2160, 2900], 360)["published7"][1:3]).all()


def test_local_mean_takes_ten_intervals_and_running_mean_all() -> None:
    intervals = [1000, 1000] + 10 * [500]
    sets = rr.rr_features(np.cumsum([0, *intervals]), 1000)
    assert sets["published7"][-1, 2] == 500
    assert sets["ratio2_so_far"][-1, 1] == 1
    assert sets["ratio2_so_far"][-1, 0] == pytest.approx(500 / (7000 / 12))
    assert sets["ratio2_record"][-2, 0] == pytest.approx(500 / (7000 / 12))
    # One beat earlier the ten intervals are 1000 and nine of 500.
    assert sets["published7"][-2, 2] == 550


@pytest.mark.parametrize("name", rr.FEATURES)
def test_causality_labels_hold_when_the_record_is_cut_short(name: str) -> None:
    beats = np.cumsum([0, 700, 900, 650, 1000, 400, 1300, 800, 820, 500, 1100, 760])
    at = 6
    whole = rr.rr_features(beats, 1000)[name][at]
    known_at = (Causality.CAUSAL, Causality.NEXT_BEAT, Causality.NEXT_TWO_BEATS)
    for ahead in range(3):
        cut_short = rr.rr_features(beats[: at + 1 + ahead], 1000)[name][at]
        for column, feature in enumerate(rr.FEATURES[name]):
            known = whole[column] == cut_short[column]
            assert known == (feature.causality in known_at[: ahead + 1]), (feature, ahead)


RECORD = np.repeat(np.arange(4), [2500, 40, 1, 900])
LABEL = np.where(np.arange(len(RECORD)) % 7 == 0, np.arange(len(RECORD)) % 4, 0)


@pytest.mark.parametrize("record", [RECORD, RECORD[::-1], np.tile([1, 0], 50), RECORD[:0]])
def test_permutation_moves_beats_within_their_records_only(record: np.ndarray) -> None:
    order = rr.permute_within(record, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(order), np.arange(len(record)))
    np.testing.assert_array_equal(record[order], record)


def test_placebo_repeats_for_a_seed_and_differs_between_seeds() -> None:
    first = rr.placebo_order(RECORD, 3, 0)
    np.testing.assert_array_equal(first, rr.placebo_order(RECORD, 3, 0))
    for other in (rr.placebo_order(RECORD, 3, 1), rr.placebo_order(RECORD, 4, 0)):
        assert (first != other).mean() > 0.9


def test_reliance_sample_holds_all_rare_beats_and_normal_ones_of_every_record() -> None:
    beats, donors = rr.reliance_sample(RECORD, LABEL, 0)
    assert (np.diff(beats) > 0).all()
    assert set(np.flatnonzero(LABEL != 0)) <= set(beats)
    normal = beats[LABEL[beats] == CLASSES.index("N")]
    assert len(normal) == rr.NORMAL_SAMPLE
    available = np.bincount(RECORD[LABEL == 0])
    taken = np.bincount(RECORD[normal])
    # The small records give all they have, the two large ones share the rest.
    assert taken[1:3].tolist() == available[1:3].tolist()
    assert abs(taken[0] - taken[3]) <= 1
    # Donors are of the same record, and others in each permutation.
    assert donors.shape == (rr.PERMUTATIONS, len(beats))
    np.testing.assert_array_equal(RECORD[donors], np.broadcast_to(RECORD[beats], donors.shape))
    assert len({row.tobytes() for row in donors}) == rr.PERMUTATIONS
    # The study seed decides.
    np.testing.assert_equal(rr.reliance_sample(RECORD, LABEL, 0), (beats, donors))
    assert not np.array_equal(beats, rr.reliance_sample(RECORD, LABEL, 1)[0])
