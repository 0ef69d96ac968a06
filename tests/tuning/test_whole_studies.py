"""Whole studies by the command line, trained in the test's process: what they say and leave."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from study.config import TrialConfig
from study.data import fetch
from study.data.catalogue import DS1, DS2
from study.data.fetch import files_of, sha256_of
from study.data.synthetic import write_records
from study.keys import FLOORS, Outcome, Tag
from study.store.folder import BEATS, SPACE_COPY
from study.store.plan import StudyPlan
from study.store.trial_files import PREDICTIONS, WEIGHTS
from study.tracking.view import NOTE
from study.training.loop import TrialTraining
from study.tuning.trial import TrialJob
from tests.builders import space_toml
from tests.command import Ended
from tests.engine import trained_here
from tests.studies import Studies

CONTRASTS = [["film", "film_placebo"]]
COMPARE = space_toml(
    {"learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}},
    fixed={"embed_dim": 8, "epochs": 1, "normal_beats_per_epoch": 40},
    arms=[
        {"name": "film", "fusion": "film", "placebo": True},
        {"name": "concat", "fusion": "concat"},
    ],
    settings={"draws": 1, "folds": 2, "reference": "concat", "contrasts": CONTRASTS},
)


@pytest.fixture(scope="module")
def searched(studies: Studies) -> Ended:
    return studies.here("fast", "search")


def test_a_search_ends_with_a_table_and_shows_it_again(searched: Ended, studies: Studies) -> None:
    assert searched.code == 0, searched
    assert searched.out.startswith("Answer: The first candidate by AUPRC S+V: opt1 / daeac / film")
    for said in (
        "\nCandidates by arm. Mean ± sd over the complete trials",
        "\nlogistic regression ",
        "\nAlarms:\n",
        "\nNext:\n  python -m study.report --study search  ",
        "\n  python -m study.run --confirm search  ",
        "\n  MLflow: run `mlflow ui` in ",
    ):
        assert said in searched.out
    assert "early stopping was right: finished trials: 1" in " ".join(searched.out.split())
    assert "orchestration: " not in searched.out
    for said in ("\ntrials: 4 of up to 3 epochs, 1 arm, ", "\ntime: ", "\nstop: Ctrl-C "):
        assert said in searched.err
    assert "floor: prevalence" not in searched.out, "the table has it as the level of chance"
    assert "trial   0 complete AUPRC S+V ." in searched.err
    # Nothing is left to run, so that its cluster may be gone.
    again = studies.here("fast", "search", "--address", "127.0.0.1:1")
    assert (again.code, again.err) == (0, "")
    said, *lines = again.out.splitlines()
    assert said == "study 'search' was complete already: nothing was run"
    assert lines[:5] == searched.out.splitlines()[:5]
    assert len(studies.trials("search")) == 4


def test_optuna_and_mlflow_agree_on_trials_and_floors(searched: Ended, studies: Studies) -> None:
    assert [*studies.audit("search").values()] == [Outcome.COMPLETE, *[Outcome.PRUNED] * 3]
    (parent,) = studies.runs("search", "study")
    assert parent.data.metrics["trials_pruned"] == 3
    assert "- First candidates **opt1 / daeac / film / " in parent.data.tags[NOTE]
    (finished,) = [r for r in studies.runs("search", "trial") if r.info.status == "FINISHED"]
    assert studies.trials("search")[0].value == finished.data.metrics["val_auprc_sv"]

    floors = {run.data.params["floor"]: run for run in studies.runs("search", "floor")}
    stored = (studies.study("search") / "floors").glob(f"*/{PREDICTIONS}")
    assert sorted(floors) == sorted(path.parent.name for path in stored)
    assert {*floors} == {*FLOORS}
    for run in floors.values():
        assert (run.info.status, run.data.tags[Tag.OUTCOME]) == ("FINISHED", Outcome.COMPLETE)
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert floors["prevalence"].data.params["fusion"] == "floor: prevalence"
    assert 0 < floors["prevalence"].data.metrics["val_auprc_sv"]
    assert floors["prevalence"].data.metrics["val_auroc_sv"] == 0.5


def test_a_start_mends_files_and_names_lost_results(searched: Ended, studies: Studies) -> None:
    files = [studies.study("search") / name for name in (SPACE_COPY, BEATS)]
    before = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    (weights,) = studies.files("search", WEIGHTS)
    aside = weights.rename(weights.with_suffix(".aside"))
    try:
        again = studies.here("fast", "search", "--resume")
    finally:
        aside.rename(weights)
    assert again.code == 0
    assert [file.read_bytes() for file in files] == before
    assert "results are missing (trial 0: weights.pt is missing); `--status search`" in again.err


def test_a_comparison_runs_every_arm_and_its_placebo(studies: Studies) -> None:
    (studies.folder / "compare.toml").write_text(COMPARE)
    ended = studies.here("compare", "compare").succeeded()
    assert re.match(r"Answer: First in AUPRC S\+V is (film|concat), .*\n", ended.out)
    assert "\nfilm - its placebo " in ended.out and "What each class rests on" not in ended.out
    runs = studies.runs("compare", "trial")
    assert [*studies.audit("compare").values()] == [Outcome.COMPLETE] * 3
    assert sorted(r.data.tags[Tag.ARM] for r in runs) == ["concat", "film", "film_placebo"]
    assert len({r.data.params["learning_rate"] for r in runs}) == 1, "all run at the same draw"
    again = studies.here("compare", "compare").out.split("\nNext:")[0]
    assert again.endswith(ended.out.split("\nNext:")[0]), "asked again, it says the same"
    assert "What each class rests on. " in studies.here("compare", "compare", "-v").out

    digest = studies.trials("compare")[0].user_attrs[Tag.DIGEST]
    (studies.study("compare") / "trials" / digest / PREDICTIONS).unlink()
    without = studies.here("compare", "compare")
    assert without.code == 0
    assert "note: the arms are not compared: trial 0, film: " in without.out
    assert re.search(r"\nAnswer: AUPRC S\+V: film \S+ concat \S+ and \w+ \S+ the", without.out)
    assert "--repair compare    then --resume: brings " in without.out.split("\nNext:")[1]
    assert "\nArms by score. Mean ± sd over the draws of each arm" in without.out


def test_mitdb_without_ds2_and_with_a_trial_that_fails(
    studies: Studies, monkeypatch: pytest.MonkeyPatch
) -> None:
    mitdb = studies.folder / "mitdb"
    write_records(mitdb, names=DS1, duration_s=30)
    sums = {file: sha256_of(mitdb / file) for file in files_of(DS1)}
    monkeypatch.setattr(fetch, "published_checksums", lambda *_: sums)
    build = TrialJob.training

    def training(job: TrialJob, config: TrialConfig, *more: Any) -> TrialTraining:
        if config.train.learning_rate == 0.001:
            raise ValueError("does not fit")
        return build(job, config, *more)

    monkeypatch.setattr(TrialJob, "training", training)
    words = "--space long.toml --epochs 1 --data-dir mitdb --concurrency 1 --device cpu".split()
    ended = trained_here(studies.folder, [*words, "--no-track", "--quiet"])
    assert ended.code == 1, ended
    assert "Failed trials. 1 of 2 trials failed" in ended.out
    assert "ValueError: does not fit" in ended.out
    assert "DS2 has been opened 0 times in this workspace." in ended.out
    assert "\n  tracking: off\n" in ended.out
    assert ended.err == ""
    assert [trial.state.name for trial in studies.trials("long")] == ["COMPLETE", "FAIL"]
    assert StudyPlan.load(studies.study("long")).data_source == "mitdb"
    beats = np.load(studies.study("long") / BEATS)
    assert sorted(beats["record_names"]) == sorted(DS1)
    assert not {path.stem for path in mitdb.iterdir()} & set(DS2), "nothing put them there"
    assert trained_here(studies.folder, words).code == 1
    recorded = replace(studies, experiment="ecg-rr-fusion")
    assert {r.info.status for r in recorded.runs("long", "trial")} == {"FINISHED", "FAILED"}
    monkeypatch.setattr(TrialJob, "training", build)
    dry = trained_here(studies.folder, [*words, "--resume", "--retry-failed", "--dry-run"])
    assert "\nso far: unfinished: 1 of 2 trials settled, 1 interrupted, best " in dry.out
    tells = ("--on-end", "echo $STUDY_NAME $STUDY_EXIT_CODE $STUDY_STATE > told")
    assert trained_here(studies.folder, [*words, "--resume", "--retry-failed", *tells]).code == 0
    assert (studies.folder / "told").read_text().startswith("long 0 finished: 2 of 2 trials sett")
    assert {r.info.status for r in recorded.runs("long", "trial")} == {"FINISHED"}
