"""The catalogue of databases, and the annotation counts of MIT-BIH's real records."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from study.data.annotations import AAMI, BEAT_SYMBOLS, read_annotations
from study.data.catalogue import (
    CATALOGUE,
    DS1,
    DS2,
    FILE_SUFFIXES,
    MITDB,
    PATIENT_OF,
    PUBLISHED_VALIDATION,
)

COUNTS = """
    101 1860/3/0/0/2  106 1507/0/520/0/0  108 1740/4/17/2/0  109 2492/0/38/2/0
    112 2537/2/0/0/0  114 1820/12/43/4/0  115 1953/0/0/0/0  116 2302/1/109/0/0
    118 2166/96/16/0/0  119 1543/0/444/0/0  122 2476/0/0/0/0  124 1536/31/47/5/0
    201 1635/128/198/2/0  203 2529/2/444/1/4  205 2571/3/71/11/0  207 1543/107/210/0/0
    208 1586/2/992/373/2  209 2621/383/1/0/0  215 3195/3/164/1/0  220 1954/94/0/0/0
    223 2045/73/473/14/0  230 2255/0/1/0/0  100 2239/33/1/0/0  103 2082/2/0/0/0
    105 2526/0/41/0/5  111 2123/0/1/0/0  113 1789/6/0/0/0  117 1534/1/0/0/0
    121 1861/1/1/0/0  123 1515/0/3/0/0  200 1743/30/826/2/0  202 2061/55/19/1/0
    210 2423/22/195/10/0  212 2748/0/0/0/0  213 2641/28/220/362/0  214 2003/0/256/1/2
    219 2082/7/64/1/0  221 2031/0/396/0/0  222 2274/209/0/0/0  228 1688/3/362/0/0
    231 1568/1/2/0/0  232 398/1382/0/0/0  233 2230/7/831/11/0  234 2700/50/3/0/0
"""
"""N/S/V/F/Q of each record, all beats. An independent project's audit has the same 44 rows:
results/tables/record_audit.csv of github.com/qazalnaderi/robust-ecg-arrhythmia."""

_WORDS = COUNTS.split()
EXPECTED = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))


def test_lists_share_out_all_48_records_of_47_patients() -> None:
    assert (len(DS1), len(DS2), len(MITDB.left_out)) == (22, 22, 4)
    assert sorted(DS1 + DS2 + MITDB.left_out) == list(MITDB.records) == sorted(PATIENT_OF)
    assert len(set(MITDB.records)) == 48
    assert set(PUBLISHED_VALIDATION) < set(DS1)
    records_of = Counter(PATIENT_OF.values())
    assert {patient for patient, n in records_of.items() if n > 1} == {"201"}
    assert PATIENT_OF["201"] == PATIENT_OF["202"]


PUBLISHED = {
    # records, patients, and whether SHA-256 of the files, or of their list, are at hand
    **{"mitdb": (48, 47, True), "svdb": (78, 78, True), "incartdb": (75, 32, True)},
    **{"edb": (90, 90, False), "ltdb": (7, 7, False)},
}
"""As PhysioNet states; of edb it is not known here which 90 records are of its 79 patients."""


def test_no_two_databases_have_a_record_of_the_same_name() -> None:
    assert CATALOGUE.keys() == PUBLISHED.keys()
    for name, database in CATALOGUE.items():
        patients = len(set(database.patient_of.values()))
        at_hand = bool(database.checksums() or database.list_sha256)
        assert (len(database.records), patients, at_hand) == PUBLISHED[name]
        assert bool(database.unknown) != (name == "mitdb")
        if sums := database.checksums():
            files = {f"{n}{suffix}" for n in database.records for suffix in FILE_SUFFIXES}
            assert sums.keys() == files
            assert {len(digest) for digest in sums.values()} == {64}
    every = [record for database in CATALOGUE.values() for record in database.records]
    assert len(every) == len(set(every)) == 298


def test_aami_class_of_each_symbol() -> None:
    symbols = {"N": "NLRejBn", "S": "AaJS", "V": "VEr", "F": "F", "Q": "/fQ?"}
    for name, of_class in symbols.items():
        assert {symbol for symbol in AAMI if AAMI[symbol] == name} == set(of_class)
    assert not BEAT_SYMBOLS & set('+~|x"[]!()ptusT*D=^@')


@pytest.mark.data
def test_real_records_have_the_known_beats(mitdb_dir: Path) -> None:
    """Only annotations are read: DS2's counts are known, its signals stay sealed."""
    for name in DS1 + DS2:
        counts = Counter(AAMI[s] for s in read_annotations(mitdb_dir, name).beat_symbols.tolist())
        assert "/".join(str(counts[c]) for c in "NSVFQ") == EXPECTED[name], name
