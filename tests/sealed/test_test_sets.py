"""Arms that train on several databases, and test sets other than DS2, from plan to result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.data.catalogue import CATALOGUE, DS2
from study.data.synthetic import write_records
from study.keys import FLOORS
from tests.command import Ended
from tests.sealed.conftest import PLAN, Run

SVDB = CATALOGUE["svdb"].development[:8]

SEVERAL = PLAN.replace(
    'contrasts = [["rr", "rr_placebo"]]',
    """\
contrasts = [["rr", "rr_on_mitdb"], ["rr", "logistic_ratios_on_mitdb"]]
floor = "logistic_ratios"
development = "svdb+mitdb"
""",
).replace('name = "rr_placebo"\nrr = "placebo"', 'name = "rr_on_mitdb"\ndevelopment = "mitdb"')
"""The same arm trained on DS1 and svdb, and on DS1 alone."""


@pytest.fixture(scope="module")
def svdb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A minute of eight records in the names and the form of svdb."""
    folder = tmp_path_factory.mktemp("svdb")
    write_records(folder, names=SVDB, duration_s=60, sampling_rate_hz=128, leads=("ECG1", "ECG2"))
    return folder


@pytest.fixture
def tests(workspace: Path, halves: Path, svdb: Path, evaluates: Run) -> Run:
    """Evaluates a plan in the workspace, where both databases are at hand."""
    folders = ("--data-dir", f"mitdb={halves}", "--data-dir", f"svdb={svdb}")

    def run(plan: str, *words: str) -> Ended:
        return evaluates("--plan", plan, "--synthetic", "--no-track", *folders, *words)

    return run


def result_of(workspace: Path, opening: str) -> Any:
    (path,) = workspace.glob(f"rehearsals/*/{opening}/result.json")
    return json.loads(path.read_text())


def test_an_arm_on_two_sets_of_records_is_in_one_opening(tests: Run, workspace: Path) -> None:
    (workspace / "several.toml").write_text(SEVERAL)
    told = tests("several.toml", "--dry-run").out
    assert "trained on all 14 records of a SYNTHETIC mitdb+svdb (" in told
    assert "trained on all 6 records of a SYNTHETIC DS1 (" in told
    told = tests("several.toml").out
    assert "rr: 10 models trained on all 14 records of a SYNTHETIC mitdb+svdb (" in told
    result = result_of(workspace, "opening_1")
    on_mitdb = [f"{name}_on_mitdb" for name in FLOORS]
    assert list(result["arms"]) == ["rr", "rr_on_mitdb", *FLOORS, *on_mitdb]
    pairs = [
        (pair["first"], pair["second"])
        for pair in result["comparisons"]["auprc_sv"]["contrasts"]
        if pair["primary"]
    ]
    assert pairs == [("rr", "rr_on_mitdb"), ("rr", "logistic_ratios_on_mitdb")]
    # Each is held against the floor of its own records.
    assert "rr - logistic_ratios " in told and "rr_on_mitdb - logistic_ratios_on_mitdb" in told
    (path,) = workspace.glob("rehearsals/*/opening_1/predictions.npz")
    with np.load(path) as arrays:
        assert tuple(arrays["record_names"]) == DS2
        assert not np.allclose(arrays["log_probs_rr"], arrays["log_probs_rr_on_mitdb"])
    # Trained apart, the arm on DS1 alone has the weights of a plan that has no other.
    weights = [
        path.read_bytes() for path in workspace.glob("rehearsals/*/training*/*/*/weights.pt")
    ]
    assert len(weights) == 4 and len(set(weights)) == 3


def test_each_test_set_has_a_log_and_results(tests: Run, evaluates: Run, workspace: Path) -> None:
    told = tests("tiny.toml", "--test", "svdb").out
    assert "opening 1 of svdb" in told and "AUPRC on svdb, the primary metric first" in told
    assert "REHEARSAL: a SYNTHETIC svdb has been opened 1 time in this workspace" in told
    assert (
        "nothing was opened (--again opens svdb once more)"
        in tests("tiny.toml", "--test", "svdb").out
    )
    assert "svdb has been opened 2 times" in tests("tiny.toml", "--test", "svdb", "--again").out
    log = workspace / "rehearsals" / "test_openings_svdb.jsonl"
    first, second = map(json.loads, log.read_text().splitlines())
    assert (first["test_set"], first["again"], second["again"]) == ("svdb", False, True)
    assert result_of(workspace, "opening_svdb_2")["beats"]["by_record"].keys() == {*SVDB}
    lines = evaluates("--openings", "--synthetic").out.splitlines()
    assert lines[0].startswith("REHEARSAL: a SYNTHETIC DS2 has been opened 0 times")
    assert lines[-1].startswith("REHEARSAL: a SYNTHETIC svdb has been opened 2 times")
