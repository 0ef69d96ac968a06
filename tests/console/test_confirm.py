"""Confirming a search: what is refused, and a whole confirmation that is stopped and resumed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from unittest import mock

import pytest

from study import run
from study.console.confirm import confirm
from study.data.source import synthetic_source
from study.keys import AUPRC_SV
from study.store.floors import stored_floors
from study.store.study import Study
from study.wording import score_text
from tests.builders import low_rank, space_toml, write_split
from tests.command import Ended, fresh_tables, own_surroundings
from tests.engine import trained_here

NAMES = ("101", "106", "108", "109", "112", "114", "115", "116")
"""Eight records allow six partitions into two folds that are about as even."""

OPTIONS = "--device cpu --concurrency 1".split()
RECORDS = "--records records --split split.toml".split()
"""Given once: a confirmation takes those of its search."""

SPACE = space_toml(
    {"fusion": ["rr_only", "low_rank"]},
    fixed={"embed_dim": 8, "epochs": 1, "normal_beats_per_epoch": 40},
    settings={"sampler": "grid", "scheduler": "none", "folds": 2},
)


def main(folder: Path, *words: str) -> Ended:
    """Run a command that knows no plug-in yet, as a new process does."""
    with fresh_tables():
        return trained_here(folder, [*OPTIONS, "--no-track", *words])


def scores(folder: Path, name: str) -> dict[str, float]:
    """Return the objective by arm, as a confirmation names it."""
    rows = Study.open(folder, name).rows
    return {row.arm.replace(" / ", "_"): row.metric(AUPRC_SV) for row in rows}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workspace")
    source = synthetic_source(folder / "made", duration_s=30, names=NAMES)
    (folder / "records").symlink_to(source.folders[0])
    write_split(folder, NAMES)
    (folder / "tiny.toml").write_text(SPACE)
    plugin = folder / "low_rank.py"
    plugin.write_text(low_rank())
    with own_surroundings(), fresh_tables():
        main(folder, *RECORDS, "--space", "tiny.toml", "--plugin", str(plugin)).succeeded()
        plugin.unlink()  # the search has its own copy
        yield folder


def test_a_dry_run_and_a_resume_of_nothing_leave_nothing(workspace: Path) -> None:
    ended = main(workspace, "--confirm", "tiny", "--dry-run").succeeded()
    assert "confirming 'tiny': 2 configurations on partition seeds " in ended.out
    assert " (simplest within one standard error of the best)" in ended.out
    assert "of 1 epoch, 2 arms, 10 members each (2 folds x 5 seeds)" in ended.out
    assert ended.out.count(" parameters  ") == 2, "each arm is built"
    assert ended.out.endswith("and so for each of 3 partitions\n")
    refused = main(workspace, "--confirm", "tiny", "--resume")
    assert refused.code == 2
    assert refused.err.startswith("error: there is no study 'tiny-confirm-p1' in ")
    in_full = main(workspace, "--confirm", "tiny", "--epochs", "3", "--dry-run")
    assert " and study seed 1, epochs: 3\n" in in_full.out
    assert "of 3 epochs, 2 arms, 10 members each (2 folds x 5 seeds)" in in_full.out
    assert [path.name for path in (workspace / "studies").iterdir()] == ["tiny"]


@pytest.fixture(scope="module")
def confirmed(workspace: Path) -> Ended:
    """A confirmation that a time limit stopped at once, and that was then resumed."""
    stopped = main(workspace, "--confirm", "tiny", "--time-limit", "0.1s")
    assert stopped.code == 3, stopped.err
    said = "stopped: the study's --time-limit was reached; 0 of 2 trials settled\n"
    assert (
        said in stopped.out and "\n  python -m study.run --confirm tiny --resume " in stopped.out
    )
    refused = main(workspace, "--confirm", "tiny")
    assert refused.code == 2
    assert refused.err.startswith("error: study 'tiny-confirm-p1' is unfinished (0 of 2 trials ")
    return main(workspace, "--confirm", "tiny", "--resume")


STUDIES = [f"tiny-confirm-p{number}" for number in (1, 2, 3)]


def test_each_partition_has_fresh_seeds_and_folds(confirmed: Ended, workspace: Path) -> None:
    assert confirmed.code == 0, confirmed.err
    studies = [Study.open(workspace, name) for name in ("tiny", *STUDIES)]
    plans = [study.plan for study in studies]
    assert len({plan.fold_fingerprint for plan in plans}) == 4
    assert [plan.study_seed for plan in plans] == [0, 1, 1, 1]
    assert [plan.n_seeds for plan in plans[1:]] == [5, 5, 5]
    assert len({plan.space_digest for plan in plans[1:]}) == 1
    settled = [sorted(row.digest for row in study.rows) for study in studies]
    assert settled == [settled[0]] * 4


def test_differences_are_paired_within_partitions(confirmed: Ended, workspace: Path) -> None:
    scored = [scores(workspace, name) for name in STUDIES]
    rr_only, low = sorted(scored[0], reverse=True)
    table = confirmed.out.split("Confirmation of 'tiny'. AUPRC S+V: mean ± sd over 3 fold ")[1]
    reference = next(line for line in table.splitlines() if re.search(r" - +-$", line)).split()[0]
    other = {rr_only: low, low: rr_only}[reference]
    paired = [by_arm[other] - by_arm[reference] for by_arm in scored]
    (line,) = (line for line in table.splitlines() if line.startswith(other))
    assert f"{score_text(fmean(paired), signed=True)} ± " in line
    assert line.endswith(f"{sum(value > 0 for value in paired)} of 3")
    assert f"  {score_text(scores(workspace, 'tiny')[other])}  " in line
    assert "Optimism seen: " in table
    floors = [
        {
            floor.label: floor.metrics[AUPRC_SV]
            for floor in stored_floors(Study.open(workspace, name).folder)
        }
        for name in ("tiny", *STUDIES)
    ]
    highest = max(floors[0], key=lambda label: fmean(of_study[label] for of_study in floors))
    assert f"\n{highest}  " in table
    assert "Nobody chose the floor: its search - confirmed, " in table
    assert "Optimism that remains: seeds and folds are fresh, patients are not." in table


def test_what_is_done_is_shown_again_and_not_run(confirmed: Ended, workspace: Path) -> None:
    other = main(workspace, "--confirm", "tiny", "--seeds", "6", "--epochs", "6", "--dry-run")
    assert other.code == 2
    assert "began with other epochs (1, here 6) and seeds (5, here 6) than this c" in other.err
    again = main(workspace, "--confirm", "tiny").succeeded()
    assert again.out.count("was complete already: nothing was run") == 3
    split = "Confirmation of 'tiny'"
    assert again.out.split(split)[1] == confirmed.out.split(split)[1]


def test_a_failed_trial_does_not_keep_other_partitions_from_running(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace)
    args = run._parser().parse_args(
        ["--confirm", "tiny", "--name", "other", "--records", "records", "--split", "split.toml"]
    )
    start = mock.Mock(side_effect=[1, 0, 130])
    assert confirm(args, 0.0, start, go_on=(0, 1)) == 130
    partitions = [call.args[0] for call in start.call_args_list]
    assert [partition.name for partition in partitions] == ["other-p1", "other-p2", "other-p3"]
    assert len({partition.partition_seed for partition in partitions}) == 3
