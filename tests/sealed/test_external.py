"""A plan's models on other records than MIT-BIH's, and in the model registry; all synthetic."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study import evaluate
from study.data.prepare import prepare
from study.data.source import find_external
from study.data.synthetic import write_records
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.plan import load_plan
from study.sealed.result import EvaluationFolder
from study.wording import score_text
from tests.builders import npz, pass_for
from tests.sealed.conftest import Run, never, refusal

ROOT = Path(evaluate.__file__).parents[1]
NAMES = tuple(f"p{n:02}" for n in range(1, 9))
ARMS = ("rr", "rr_placebo", "logistic_regression")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Eight patients without F at two sampling rates, with leads that MIT-BIH does not have."""
    root = tmp_path_factory.mktemp("others")
    for rate_hz in (128, 257):
        write_records(
            root / f"ward-{rate_hz}",
            names=NAMES,
            duration_s=90,
            sampling_rate_hz=rate_hz,
            leads=("II", "aVF"),
        )
        relabel(root / f"ward-{rate_hz}", "F", "Q")
    return {rate_hz: root / f"ward-{rate_hz}" for rate_hz in (128, 257)}


def relabel(folder: Path, symbols: str, new: str) -> None:
    """Give every beat with one of some symbols another one."""
    for name in NAMES:
        old = wfdb.rdann(str(folder / name), "atr")
        now = [new if symbol in symbols else symbol for symbol in old.symbol]
        wfdb.wrann(name, "atr", old.sample, symbol=now, write_dir=str(folder))


@pytest.mark.parametrize("rate_hz", [128, 257])
def test_other_records_are_scored_by_the_trained_models_and_ds2_stays_closed(
    run: Run,
    folder: EvaluationFolder,
    folders: dict[int, Path],
    cache_dir: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rate_hz: int,
) -> None:
    monkeypatch.setattr("study.sealed.opening.read_ds2", never)
    monkeypatch.setattr("tests.sealed.conftest.TrialRun", never)
    assert run("--records", folders[rate_hz]) == 0
    told = capsys.readouterr().out
    name = f"ward-{rate_hz}"
    for said in (
        f"on {name}, commit ",
        "DS2 was not read.",
        f"leads: II (8); sampling rates in Hz: {rate_hz} (8)",
        "models of MIT-BIH have seen lead MLII alone, not II",
        f"What {name} has of each class.",
        f"AUPRC on {name}, the primary metric first",
        "these records are SYNTHETIC: the figures say nothing about patients",
        "DS2 was not opened.",
    ):
        assert said in told, said
    place = folder.external(name)
    names = ["per_record.csv", "predictions.npz", "result.json", "tables.txt"]
    assert sorted(path.name for path in place.iterdir()) == names
    assert told.startswith((place / "tables.txt").read_text().rstrip("\n"))
    result = json.loads((place / "result.json").read_text())
    assert tuple(sorted(result["arms"])) == tuple(sorted(ARMS))
    with np.load(place / "predictions.npz") as arrays:
        log_probs, label = arrays["log_probs_rr"], arrays["label"]
        assert tuple(arrays["record_names"]) == NAMES
    # The same as the ensemble's file says of the same beats.
    config = load_plan(Path("tiny.toml")).arms[0].config
    source = find_external(folders[rate_hz]).source
    beats = prepare(source, "daeac", config.signal.resampling_method, cache_dir=cache_dir)
    ensemble = SeedEnsemble.read(folder.ensemble("rr").read_bytes())
    probs = ensemble.predict(beats.ecg, None, beats.late_rr(config.signal))
    np.testing.assert_allclose(np.exp(log_probs).mean(axis=0), probs, atol=1e-6)
    np.testing.assert_array_equal(label, beats.label)
    assert result["external"]["macro"] == ["N", "S", "V"]
    assert "F has no part in the macro: absent\nmacro: the mean of N, S, V\n" in told
    values = result["arms"]["rr"]["seeds"]["values"]
    expected = np.mean([values[f"test_auprc_{c}"] for c in "NSV"], axis=0)
    np.testing.assert_allclose(values["test_auprc_macro"], expected)
    compared = result["comparisons"]["auprc_sv"]["arms"]
    (estimates,) = [arm["estimates"] for arm in compared if arm["name"] == "rr"]
    assert estimates["macro"]["value"] == pytest.approx(expected.mean())
    assert estimates["macro"]["low"] < expected.mean() < estimates["macro"]["high"]
    assert estimates["F"]["value"] is None
    assert not (folder.root.parent / "test_openings.jsonl").exists()


def test_what_is_there_is_shown_and_other_records_do_not_replace_it(
    run: Run,
    folder: EvaluationFolder,
    folders: dict[int, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run("--records", folders[128]) == 0
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("study.sealed.opening.evaluate_records", never)
        assert run("--records", folders[128]) == 0
    assert "has a result on ward-128: shown as it is" in capsys.readouterr().out
    # Another lead of the same name of records.
    assert run("--records", folders[128], "--lead", "aVF") == 2
    assert refusal(capsys) == (
        f"--records {folders[128]}: {folder.external('ward-128')} has the result of other records "
        "or leads under the name 'ward-128'; rename the folder, or give a --split with another "
        "name"
    )
    split = tmp_path / "split.toml"
    split.write_text(f'name = "avf"\ndevelopment = {list(NAMES[:6])}\nlead = "aVF"\n')
    assert run("--records", folders[128], "--split", split) == 0
    assert "leads: aVF (6)" in capsys.readouterr().out
    assert folder.external("avf").is_dir()


def test_beats_annotated_twice_are_reported(
    run: Run,
    folder: EvaluationFolder,
    folders: dict[int, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    doubled = tmp_path / "doubled"
    shutil.copytree(folders[257], doubled)
    old = wfdb.rdann(str(doubled / "p01"), "atr")
    at = [i for i, symbol in enumerate(old.symbol) if symbol == "N"][5]
    sample = np.insert(old.sample, at + 1, old.sample[at] + 1)
    symbol = [*old.symbol[: at + 1], "V", *old.symbol[at + 1 :]]
    wfdb.wrann("p01", "atr", sample, symbol=symbol, write_dir=str(doubled))
    assert run("--records", doubled) == 0
    assert "annotated more than once within 0.2 s" in capsys.readouterr().out
    stored = json.loads((folder.external("doubled") / "result.json").read_text())["external"]
    assert [beat["symbols"] for beat in stored["doubled"]["p01"]] == [["N", "V"]]


def test_records_of_ds2_are_refused(
    run: Run,
    folders: dict[int, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = folders[128] / "p01.dat"
    pass_for(monkeypatch, signal, "100.dat")
    assert run("--records", folders[128]) == 2
    assert f"{signal}: is 100.dat of MIT-BIH's DS2, which is sealed" in refusal(capsys)


def test_records_that_cannot_test_a_model_are_refused_before_training(
    run: Run,
    workspace: Path,
    folders: dict[int, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.rmtree(workspace / "rehearsals")  # nothing is trained
    empty, bare, normal = (tmp_path / name for name in ("empty", "bare", "normal"))
    empty.mkdir()
    for folder in (bare, normal):
        shutil.copytree(folders[128], folder)
    for path in bare.glob("*.atr"):
        path.unlink()
    relabel(normal, "AaJSejVE", "N")
    for more, said in (
        ((tmp_path / "none",), "none: no such folder; give the folder of the WFDB records"),
        ((empty,), f"{empty}: no WFDB records in it: not one header (*.hea)"),
        ((bare,), f"--records {bare}: none of 8 records has beat annotations (.atr)"),
        (
            (folders[128], "--lead", "V9"),
            "must have a lead that is accepted, best first: V9; got ",
        ),
        (
            (normal,),
            f"--records {normal}: no class but N can be scored: one of S, V, F needs 10 beats, "
            "got N ",
        ),
    ):
        assert run("--records", *more) == 2, said
        assert said in refusal(capsys)
    assert not (workspace / "rehearsals").exists()


def test_what_is_not_trained_is_trained_first_and_a_dry_run_does_nothing(
    run: Run,
    folder: EvaluationFolder,
    folders: dict[int, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights = sorted(folder.root.glob("training/trials/*/weights.pt"))
    weights[0].unlink()
    assert run("--records", folders[128], "--dry-run") == 0
    told = capsys.readouterr().out
    assert "models: 1 of 2 arms are trained already\ninstead of DS2, which stays closed:" in told
    assert told.endswith(f"the result would go to {folder.external('ward-128')}\n")
    assert not folder.external("ward-128").exists()
    assert run("--records", folders[128]) == 0
    assert weights[0].exists()


def test_a_result_on_other_records_is_tracked_under_its_own_stage(
    run: Run, workspace: Path, folders: dict[int, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second adds nothing
        assert run("--records", folders[128], track=True) == 0
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{workspace / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("ecg-rr-fusion-synthetic")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.data.tags["kind"] for run in runs) == ["floor", "study", "trial", "trial"]
    assert {run.data.tags["stage"] for run in runs} == {"external"}
    (parent,) = [run for run in runs if run.data.tags["kind"] == "study"]
    assert parent.info.run_name == "tiny on ward-128"
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert {"plan.toml", "result.json", "tables.txt", "per_record.csv", "predictions.npz"} <= files


PROGRAM = """
import json, sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/svt@champion")
with np.load(sys.argv[1]) as file:
    print(json.dumps(model.predict(dict(file)).astype(float).tolist()))
"""


def test_a_registered_arm_predicts_alike_in_a_new_process(
    run: Run, workspace: Path, folder: EvaluationFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--register", "svt", "--dry-run", track=True) == 0
    assert "would be registered as svt@champion; nothing was\n" in capsys.readouterr().out
    assert not (workspace / "mlflow.db").exists()
    assert run("--register", "svt", "--arm", "rr_placebo", track=True) == 0
    assert run("--register", "svt", track=True) == 0
    told = capsys.readouterr().out
    assert "arm rr_placebo: " in told and "arm rr: opt1 / rr_only / seed7 / real\n" in told
    assert told.count("  result on DS2: none: DS2 was not opened for this plan\n") == 2
    assert "registered as svt@champion: version 2 (before: version 1)\n" in told
    assert "it was trained on SYNTHETIC records" in told

    from mlflow import MlflowClient

    uri = f"sqlite:///{workspace / 'mlflow.db'}"
    version = MlflowClient(uri, uri).get_model_version_by_alias("svt", "champion")
    assert version.tags["plan_arm"] == "rr"
    assert version.tags["ds2_result"] == "none: DS2 was not opened for this plan"
    assert version.tags["data_source"] == "synthetic"

    rng = np.random.default_rng(3)
    beats = {
        "ecg": rng.normal(size=(6, 128)).astype(np.float32),
        "late_rr": rng.uniform(600, 900, size=(6, 7)).astype(np.float32),
    }
    (workspace / "beats.npz").write_bytes(npz(**beats))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, "beats.npz"],
        cwd=workspace,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    ensemble = SeedEnsemble.read(folder.ensemble("rr").read_bytes())
    expected = ensemble.predict(beats["ecg"], None, beats["late_rr"])
    got = np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_a_registered_model_says_what_ds2_has_shown(
    run: Run, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    capsys.readouterr()
    assert run("--register", "svt", "--dry-run", track=True) == 0
    (path,) = workspace.glob("rehearsals/*/opening_1/result.json")
    stored = json.loads(path.read_text())["arms"]["rr"]["ensemble"]["values"]
    value = score_text(stored["test_auprc_sv"][0])
    assert (
        f"result on DS2: opening 1 of a SYNTHETIC DS2: test_ensemble_auprc_sv {value}\n"
        in capsys.readouterr().out
    )


def test_what_cannot_be_registered_is_refused(
    run: Run,
    workspace: Path,
    folder: EvaluationFolder,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    title = load_plan(workspace / "tiny.toml").title
    for more, said in (
        (("a/b",), "model name: must be a text without / : @, got 'a/b'"),
        (("svt", "--arm", "rrr"), "--arm: unknown arm 'rrr'; known: rr, rr_placebo. Did you"),
        (
            ("svt", "--tracking-uri", "mongodb://nowhere"),
            "tracking: cannot use 'mongodb://nowhere': MLflow keeps runs in a database",
        ),
        (
            ("svt", "--tracking-uri", "http://127.0.0.1:9"),
            "tracking: cannot use http://127.0.0.1:9: ",
        ),
    ):
        assert run("--register", *more, track=True) == 2, said
        assert said in capsys.readouterr().err
    assert run("--register", "svt") == 2
    assert refusal(capsys) == (
        "options: --register writes into MLflow's registry, and --no-track keeps MLflow out; "
        "leave one of them out"
    )
    shutil.rmtree(folder.root)
    assert run("--register", "svt", track=True) == 2
    assert refusal(capsys) == (
        f"--register: the models of plan {title} are not trained; `python -m study.evaluate "
        "--plan tiny.toml --synthetic --stop-before-opening` trains them and opens nothing"
    )
    assert not (workspace / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--lead", "II"], "options: --lead goes with --records, which is not given"),
        (["--arm", "rr"], "options: --arm goes with --register, which is not given"),
    ],
)
def test_options_that_lack_their_partner_are_refused(
    run: Run, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run(*words) == 2
    assert refusal(capsys) == said
