from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study.data.catalogue import DS2
from study.errors import StudyStateError
from study.sealed.bxb import bxb_table
from study.sealed.plan import load_plan
from study.sealed.records import Records
from study.sealed.result import PREDICTIONS, EvaluationFolder
from tests.sealed.conftest import Run


def test_escape_beats_of_a_stored_result_count_as_s(
    run: Run, opened: str, folder: EvaluationFolder, records: Records, tmp_path: Path
) -> None:
    """Record 100 gets its N beats marked as nodal escape; what was called is as it was."""
    ended = run("--ec57", "bxb")
    assert "nothing was opened" in ended.out
    assert "with 0 escape beats (e, j, n) in S, as bxb counts." in " ".join(ended.out.split())
    shutil.copytree(records.test.folders[0], tmp_path / "marked")
    marks = wfdb.rdann(str(tmp_path / "marked" / "100"), "atr")
    symbols = ["j" if symbol == "N" else symbol for symbol in marks.symbol]
    wfdb.wrann("100", "atr", marks.sample, symbol=symbols, write_dir=str(tmp_path / "marked"))
    place, plan = folder.root / "opening_1", load_plan(Path("tiny.toml"))
    origin = replace(records.test.origins["100"], folder=tmp_path / "marked")
    source = replace(records.test, origins=dict.fromkeys(DS2, origin))
    table = bxb_table(plan, place, source)
    with np.load(place / PREDICTIONS) as arrays:
        is_100 = arrays["record_names"][arrays["record"]] == "100"
        escape = is_100 & (arrays["label"] == 0)
        is_s = escape | (arrays["label"] == 1)
        called = arrays["log_probs_rr"].argmax(axis=2) == 1
    assert escape.sum() > 10
    row = dict(zip((column.heading for column in table.columns), table.rows[0], strict=True))
    assert row["SVEB Se"] == pytest.approx((called & is_s).sum(axis=1).mean() / is_s.sum())
    assert f"with {escape.sum()} escape beats (e, j, n) in S" in table.title
    symbols = ["V" if symbol == "j" else symbol for symbol in symbols]
    wfdb.wrann("100", "atr", marks.sample, symbol=symbols, write_dir=str(tmp_path / "marked"))
    with pytest.raises(StudyStateError, match="give the records of this result"):
        bxb_table(plan, place, source)
