"""The command line of the sealed test, from a plan to its stored result, on synthetic records."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from study.config import digest_of
from study.data.catalogue import DS2
from study.files import write_whole
from study.keys import EXPERIMENTS, FLOORS
from study.reporting.page.evidence import sealed
from study.reporting.results import StudyResults
from study.reporting.table import Table, central
from study.sealed import opening
from study.sealed.result import EvaluationFolder
from study.store.lock import locked
from study.store.openings import sealed_results
from study.store.plan import StudyPlan
from study.wording import SYNTHETIC
from tests.builders import mlflow_client, mlflow_runs, study_of, study_plan
from tests.sealed.conftest import PLAN, Run, command_line, interrupted, never, refusal


def openings(workspace: Path) -> list[dict[str, object]]:
    path = workspace / "rehearsals" / "test_openings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results(workspace: Path) -> list[Path]:
    return sorted((workspace / "rehearsals").glob("*/opening_*/result.json"))


def test_a_plan_is_trained_opened_scored_and_kept(workspace: Path, opened: str) -> None:
    for said in (
        ", opening 1, ",
        "Every arm: 10 models, each trained on all 6 records of a SYNTHETIC DS1 (",
        "Decisions at thresholds that are best for F1 on what trains",
        "a cross-validation of 5 folds",
        "Without some records, mean over seeds.",
        "AAMI EC57 at the most probable class",
        SYNTHETIC,
        "REHEARSAL: a SYNTHETIC DS2 has been opened 1 time in this workspace, for this plan: ",
    ):
        assert said in opened, said
    (line,) = openings(workspace)
    assert line["plan"] == "tiny" and line["arms"] == ["rr", "rr_placebo"] and line["seeds"] == 10
    assert {"time", "commit", "code", "models", "files", "previous", "digest"} <= line.keys()
    (path,) = results(workspace)
    result = json.loads(path.read_text())
    assert result["opening"] == line
    assert list(result["arms"]) == ["rr", "rr_placebo", *FLOORS]
    arm = result["arms"]["rr"]
    assert len(arm["seeds"]["values"]["test_auprc_S"]) == 10
    assert len(arm["ensemble"]["values"]["test_auprc_S"]) == 1
    prevalence, logistic = (result["arms"][name]["seeds"]["values"] for name in FLOORS[:2])
    assert logistic["test_auprc_V"][0] > 2 * prevalence["test_auprc_V"][0]
    compared = result["comparisons"]["auprc_sv"]
    estimates = {arm["name"]: arm["estimates"] for arm in compared["arms"]}
    assert estimates["rr"]["sv"]["value"] == pytest.approx(
        np.mean(arm["seeds"]["values"]["test_auprc_sv"])
    ), "two ways to the same score"
    (primary,) = [pair for pair in compared["contrasts"] if pair["primary"]]
    assert (primary["first"], primary["second"]) == ("rr", "rr_placebo")
    with np.load(path.with_name("predictions.npz")) as arrays:
        assert arrays["log_probs_rr"].shape == (10, len(arrays["label"]), 4)
        assert {arrays[f"log_probs_{name}"].shape[0] for name in FLOORS} == {1}
        assert tuple(arrays["record_names"]) == DS2
        assert arrays["seeds"].tolist() == list(range(1000, 1010))
    rows = path.with_name("per_record.csv").read_text().splitlines()
    assert rows[0].startswith("arm,record,beats,beats_N") and len(rows) == 1 + 7 * 22
    assert not (workspace / "test_openings.jsonl").exists(), "a rehearsal is no opening"


def test_the_page_of_a_study_has_its_sealed_result(workspace: Path, opened: str) -> None:
    (path,) = results(workspace)
    content = json.loads(path.read_text())
    content["plan"] += '\n[test.study]\nname = "s"\n'
    for number, text in enumerate((json.dumps(content), "half a res"), start=1):
        write_whole(workspace / f"evaluations/tiny-1/opening_{number}/result.json", text)
    (shown,) = sealed_results(workspace, "s")
    assert shown.seeds == 10 and shown.plan.startswith("tiny (")
    values = content["arms"]["rr"]["seeds"]["values"]["test_auprc_V"]
    of_v = (np.mean(values), np.std(values, ddof=1))
    assert shown.arms["rr"]["test_auprc_V"] == pytest.approx(of_v)
    assert sealed_results(workspace, "another") == []
    page = StudyResults(
        study=study_of(workspace, study_plan(name="s"), []),
        written="now",
        sealed=(shown,),
        openings="DS2 has been opened 1 time in this workspace.",
    )
    table = list(sealed(page))[1]
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["rr", "rr_placebo", *FLOORS]
    headings = [column.heading for column in table.columns]
    assert central(table.rows[0][headings.index("AUPRC V")]) == pytest.approx(np.mean(values))


def test_a_plan_that_has_a_result_shows_it_and_opens_nothing(
    run: Run, evaluates: Run, workspace: Path, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Neither records nor models are needed to show it.
    monkeypatch.setattr("study.sealed.session.find_records", interrupted)
    text = (workspace / "tiny.toml").read_text()
    (workspace / "tiny.toml").write_text(f"# now with a comment\n{text}")
    second = run()
    assert second.code == 0
    assert "has a result: nothing was opened (--again opens DS2 once more)" in second.out
    assert second.out.endswith(opened)
    assert len(openings(workspace)) == 1
    # The log is listed with its warnings: a line that was altered, and one that was taken away.
    log = workspace / "rehearsals" / "test_openings.jsonl"
    log.write_text(log.read_text().replace('"seeds": 10', '"seeds": 11'))
    told = evaluates("--openings", "--synthetic").out
    assert told.startswith("  1  ") and "  tiny (" in told
    assert "warning: test_openings.jsonl line 1: was altered since it was written" in told
    log.unlink()
    told = evaluates("--openings", "--synthetic").out
    assert told.startswith("REHEARSAL: a SYNTHETIC DS2 has been opened 0 times")
    assert "is the result of an opening that test_openings.jsonl does not have" in told
    assert evaluates("--openings").out == "DS2 has been opened 0 times in this workspace.\n"


def test_again_opens_once_more_and_goes_on_after_an_interruption(
    run: Run, workspace: Path, opened: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.sealed.conftest.TrialRun", never)
    with mock.patch.object(opening, "read_test_set", interrupted):
        assert run("--again").code == 130
    assert run().code == 0, "the first result is there"
    assert (len(openings(workspace)), len(results(workspace))) == (2, 1)
    assert "opened 2 times in this workspace, for this plan: tiny (" in run("--again").out
    assert [line["again"] for line in openings(workspace)] == [False, True]
    first, second = (json.loads(path.read_text())["arms"] for path in results(workspace))
    assert first == second


def test_training_that_is_interrupted_costs_no_opening(
    run: Run, workspace: Path, folder: EvaluationFolder
) -> None:
    next(folder.root.glob("training/trials/*/weights.pt")).unlink()
    with mock.patch("tests.sealed.conftest.TrialRun", interrupted):
        ended = run()
    assert ended.code == 130
    assert "interrupted; trained models are kept, the same command continues" in ended.err
    assert "a SYNTHETIC DS2 has been opened 0 times" in run("--stop-before-opening").out
    assert openings(workspace) == []


def test_an_opening_that_left_no_result_is_continued_and_counts_once(
    run: Run, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mock.patch.object(opening, "read_test_set", interrupted):
        ended = run()
    assert len(openings(workspace)) == 1, "on disk before DS2 is read"
    assert results(workspace) == []
    assert (ended.code, "opening 1 of a SYNTHETIC DS2, in " in ended.err) == (130, True)
    told = run("--register", "svt", "--dry-run", track=True).out
    assert "none yet: opening 1 of a SYNTHETIC DS2 has left no result" in told
    with mock.patch.object(opening, "score_arm", interrupted):
        ended = run()
    assert "continued, as it left no result; it counts once" in ended.err
    (stored,) = workspace.glob("rehearsals/*/opening_1/predictions.npz")
    with np.load(stored) as predicted:
        assert len(predicted["seeds"]) == 10, "what was predicted is there"
    assert len(openings(workspace)) == 1
    monkeypatch.setattr(opening, "code_digest", lambda: "changed")
    monkeypatch.setattr(opening, "read_test_set", interrupted)
    assert "a new one, as code or models have changed since opening 1" in run().err
    assert [line["again"] for line in openings(workspace)] == [False, False]


def test_a_dry_run_says_what_would_be_done(run: Run, folder: EvaluationFolder) -> None:
    shutil.rmtree(folder.root)
    lines = run("--dry-run").out.splitlines()
    assert lines[0].startswith("plan tiny (") and "2 arms x 10 seeds" in lines[0]
    assert {
        "  rr: opt1 / trailing / rr_only / published7 / distances / real, 1 epoch",
        "contrasts: rr - rr_placebo",
        "metrics: auprc_sv, auroc_sv (primary: auprc_sv)",
        "    distances from the template trailing: median of up to 64 beats before, causal",
        "    look-ahead: looks one beat ahead; needs the whole record",
        "test set: DS2, 66 files, known by name and hash, not read",
        "arithmetic: fp32, compiled",
        "models: 0 of 2 arms are trained already",
    } <= set(lines)
    # Of both arms and of the floor.
    assert lines.count("    thresholds: by a cross-validation of 5 folds") == 2
    assert not folder.root.exists()


def test_a_plan_that_trained_other_models_before_is_told(run: Run, workspace: Path) -> None:
    plan = workspace / "tiny.toml"
    plan.write_text(PLAN.replace("[fixed]", '[fixed]\nlogit_adjustment = "none"'))
    told = "has the hash that it had before there was a logit_adjustment, but now trains other"
    assert told in run("--dry-run").out.splitlines()[0]


def test_a_study_trains_it_and_everything_is_in_mlflow(
    evaluates: Run, cache_dir: Path, halves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Ray, Optuna and MLflow: the one test that trains as a user does."""
    words = command_line(halves, "-q", track=True)
    (tmp_path / "tiny.toml").write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_CACHE_DIR", str(cache_dir))
    monkeypatch.delenv("MITDB_DIR", raising=False)
    assert evaluates(*words, "--stop-before-opening").code == 0
    assert "look further: MLflow: run `mlflow ui`" in evaluates(*words).out
    client = mlflow_client(tmp_path)
    runs = mlflow_runs(client, EXPERIMENTS["synthetic"])
    stages = Counter((run.data.tags["stage"], run.data.tags["kind"]) for run in runs)
    assert stages == {
        # The study that trains all arms on all records, and the result.
        ("test", "study"): 2,
        ("test", "trial"): 4,
        ("test", "floor"): 5,
        # The study that cross-validates them for their thresholds.
        ("validation", "study"): 1,
        ("validation", "trial"): 2,
    }
    assert {run.info.status for run in runs} == {"FINISHED"}
    of_arm = [run for run in runs if run.data.tags.get("arm") == "rr"]
    (arm,) = [run for run in of_arm if "test_auprc_sv" in run.data.metrics]
    stored = json.loads(results(tmp_path)[0].read_text())["arms"]["rr"]
    values = stored["seeds"]["values"]["test_auprc_sv"]
    said = {
        "test_auprc_sv": np.mean(values),
        "spread/test_auprc_sv_seed_sd": np.std(values, ddof=1),
        "ensemble/test_auprc_sv": stored["ensemble"]["values"]["test_auprc_sv"][0],
    }
    assert {name: arm.data.metrics[name] for name in said} == pytest.approx(said)
    assert arm.data.params["fusion"] == "rr_only"
    (parent,) = [run for run in runs if run.info.run_name == "tiny on DS2"]
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"plan.toml", "result.json", "tables.txt", "per_record.csv", "predictions.npz"} <= names
    # Once recorded, it is not recorded again.
    assert evaluates(*words).code == 0
    assert len(mlflow_runs(client, EXPERIMENTS["synthetic"])) == len(runs)


def of_study(workspace: Path, **changes: Any) -> StudyPlan:
    """Leave a study's plan in the workspace, and `tiny.toml` as a plan that comes from it."""
    changes = {"data_fingerprints": {"daeac/linear/trailing": "2" * 12}} | changes
    study = study_plan(name="smoke", kind="compare", **changes)
    study.save(workspace / "studies" / "smoke")
    fingerprint = digest_of(study.identity())
    data = json.dumps(dict(study.data_fingerprints)).replace(":", " =")
    head, arms = PLAN.split("[[arms]]", 1)
    origin = f'[test.study]\nname = "smoke"\nfingerprint = "{fingerprint}"\ndata = {data}\n'
    (workspace / "tiny.toml").write_text(f"{head}{origin}[[arms]]{arms}")
    return study


def test_a_plan_whose_study_is_another_by_now_is_refused(run: Run, workspace: Path) -> None:
    of_study(workspace)
    said = refusal(run())
    assert "mitdb is not what study 'smoke' saw: daeac/linear/trailing: the study had 2222" in said
    assert said.endswith("Run the study again with today's records and code")
    of_study(workspace, data_fingerprints={"centred/linear": "1" * 12})
    said = "has no fingerprint of study 'smoke' for daeac/linear/trailing, so that nothing"
    assert said in refusal(run())
    study = of_study(workspace, data_source="mitdb")
    assert run("--dry-run").code == 0, "synthetic records rehearse any plan"
    replace(study, trials=9).save(workspace / "studies/smoke")
    assert "it was run again, or its plan was edited. Write the plan anew" in refusal(run())
    text = (workspace / "tiny.toml").read_text()
    (workspace / "tiny.toml").write_text(text.replace('"smoke"', '"smoky"'))
    assert "studies there: smoke. Did you mean 'smoke'?" in refusal(run())
    assert openings(workspace) == []


def test_what_cannot_be_evaluated_writes_nothing(evaluates: Run, workspace: Path) -> None:
    (workspace / "few.toml").write_text('name = "few"\nseeds = 9\n[[arms]]\nname = "film"\n')
    before = sorted(workspace.rglob("*"))
    for words, said in (
        ("--write-plan smok", "there is no study 'smok' in "),
        ("--plan few.toml", "few.toml: compare.seeds: must be 10 or more"),
        ("--plan tiny.toml --data-dir nowhere", "--data-dir: nowhere: no such folder; give the f"),
        ("--plan tiny.toml --synthetic --test DS3", "--test: unknown test set 'DS3'; "),
        ("--plan a --lead II", "options: --lead goes with --records, which is not given"),
        ("--plan a --ec57 bxb --dry-run", "options: --ec57 cannot go with --register, "),
        ("--plan tiny.toml --test a --records b", "--records with --test needs --split FILE"),
        ("--openings --dry-run", "options: --dry-run means nothing with --openings"),
    ):
        assert said in refusal(evaluates(*words.split()))
        assert sorted(workspace.rglob("*")) == before


def test_a_second_process_waits_its_turn(run: Run, folder: EvaluationFolder) -> None:
    with locked(folder.root):
        assert f"'{folder.root.name}' is being run by" in refusal(run())
