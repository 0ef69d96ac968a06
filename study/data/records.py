"""MIT-BIH Arrhythmia Database: its records, the published split and the AAMI classes.

Split: de Chazal, O'Dwyer and Reilly 2004, doi:10.1109/TBME.2004.827359. Classes: ANSI/AAMI EC57,
with the atrial and nodal escape beats (e, j) in N as in that paper.
"""

from __future__ import annotations

from types import MappingProxyType

from study.keys import CLASSES

DS1 = (
    *("101", "106", "108", "109", "112", "114", "115", "116", "118", "119", "122"),
    *("124", "201", "203", "205", "207", "208", "209", "215", "220", "223", "230"),
)
"""Records for development: a study uses only these."""

DS2 = (
    *("100", "103", "105", "111", "113", "117", "121", "123", "200", "202", "210"),
    *("212", "213", "214", "219", "221", "222", "228", "231", "232", "233", "234"),
)
"""Sealed test records: no study reads them."""

PACED = ("102", "104", "107", "217")
"""Records of patients with pacemakers, which AAMI EC57 excludes."""

MITDB = tuple(sorted(DS1 + DS2 + PACED))
"""All 48 records."""

FILE_SUFFIXES = (".hea", ".dat", ".atr")
"""Files of one MIT-BIH record: header, signals, reference annotations."""

PUBLISHED_VALIDATION = ("114", "124", "205", "207", "220")
"""Validation records of the published 17/5 hold-out of DS1."""

PATIENT_OF = MappingProxyType({name: "201" if name == "202" else name for name in MITDB})
"""Patient of each record: 201 (DS1) and 202 (DS2) are one person, all others are distinct."""

LEADS = ("MLII", "V1", "V2", "V4", "V5")
"""Accepted leads, best first: MLII is channel 1 in record 114, so leads are chosen by name."""

_SYMBOLS_OF = {"N": "NLRejBn", "S": "AaJS", "V": "VEr", "F": "F", "Q": "/fQ?"}

AAMI = MappingProxyType({s: name for name, symbols in _SYMBOLS_OF.items() for s in symbols})
"""AAMI class, one of `AAMI_CLASSES`, of every beat symbol.

B, n, r and ? occur only in one's own records. Each has the class of its nearest relative: B
(unspecified bundle branch block) the blocks L and R, n (supraventricular escape) e and j, r
(R-on-T) the premature V.
"""

AAMI_CLASSES = (*CLASSES, "Q")
"""Classes of the annotation counts; Q (paced, fused with paced, unclassifiable) is not studied."""

BEAT_SYMBOLS = frozenset(AAMI)
"""Annotations that are beats; all others (rhythm, noise, waves, comments) are not."""
