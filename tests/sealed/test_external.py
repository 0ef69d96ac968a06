"""A plan's models on other records than MIT-BIH's, and in the model registry; all synthetic."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import wfdb

from study.data.annotations import Doubled
from study.data.external import find_external
from study.data.prepare import prepare, prepare_all
from study.data.synthetic import write_records
from study.errors import MissingDataError
from study.keys import EXPERIMENTS, FLOORS
from study.models.seed_ensemble import SeedEnsemble
from study.sealed.external import ClassPresence, classes_present, describe
from study.sealed.plan import SealedPlan
from study.sealed.result import EvaluationFolder
from study.sealed.to_mlflow import registrable
from study.wording import SYNTHETIC, SYNTHETIC_MODEL, score_text
from tests.builders import bare_beats, mlflow_client, mlflow_runs, pass_for, write_record
from tests.sealed.conftest import Run, never, refusal

NAMES = tuple(f"p{n:02}" for n in range(1, 9))


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight patients without F, at a rate and with leads that MIT-BIH does not have.

    A beat of p01 is annotated twice.
    """
    folder = tmp_path_factory.mktemp("others") / "ward"
    write_records(folder, names=NAMES, duration_s=90, sampling_rate_hz=257, leads=("II", "aVF"))
    relabel(folder, "F", "Q")
    old = wfdb.rdann(str(folder / "p01"), "atr")
    at = [i for i, symbol in enumerate(old.symbol) if symbol == "N"][5]
    sample = np.insert(old.sample, at + 1, old.sample[at] + 1)
    symbol = [*old.symbol[: at + 1], "V", *old.symbol[at + 1 :]]
    wfdb.wrann("p01", "atr", sample, symbol=symbol, write_dir=str(folder))
    return folder


def relabel(folder: Path, symbols: str, new: str) -> None:
    """Give every beat with one of some symbols another one."""
    for name in NAMES:
        old = wfdb.rdann(str(folder / name), "atr")
        now = [new if symbol in symbols else symbol for symbol in old.symbol]
        wfdb.wrann(name, "atr", old.sample, symbol=now, write_dir=str(folder))


@pytest.fixture(scope="module")
def scored(evaluated_once: Callable[..., tuple[Path, str]], ward: Path) -> tuple[Path, str]:
    """A workspace with results on these records, and what the command has said."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("study.sealed.opening.read_test_set", never)
        patch.setattr("tests.sealed.conftest.TrialRun", never)
        return evaluated_once("--records", ward)


def test_other_records_are_scored_by_the_trained_models_and_ds2_stays_closed(
    scored: tuple[Path, str], trained: tuple[Path, SealedPlan], ward: Path, cache_dir: Path
) -> None:
    (workspace, told), plan = scored, trained[1]
    folder = EvaluationFolder.of(workspace, plan, rehearsal=True)
    for said in (
        "Nothing was opened.",
        "leads: II (8); sampling rates in Hz: 257 (8)",
        "models of MIT-BIH have seen lead MLII alone, not II",
        "AUPRC on ward, the primary metric first",
        "annotated more than once within 0.2 s",
        SYNTHETIC,
        "DS2 was not opened.",
    ):
        assert said in told, said
    results = folder.external("ward")
    names = ["per_record.csv", "predictions.npz", "result.json", "tables.txt"]
    assert sorted(path.name for path in results.iterdir()) == names
    assert told.startswith((results / "tables.txt").read_text().rstrip("\n"))
    result = json.loads((results / "result.json").read_text())
    assert result["arms"].keys() == {"rr", "rr_placebo", *FLOORS}
    ((record, (beat,)),) = result["external"]["doubled"].items()
    assert (record, beat["symbols"]) == ("p01", ["N", "V"])
    with np.load(results / "predictions.npz") as arrays:
        log_probs, label = arrays["log_probs_rr"], arrays["label"]
        assert tuple(arrays["record_names"]) == NAMES
    # The same as the ensemble that is registered says of the same beats.
    signal = plan.arms[0].config.signal
    source = find_external(ward).source
    (beats,) = prepare_all(source, [signal.cut], cache_dir=cache_dir).values()
    given = (beats.ecg, None, beats.late_rr(signal), beats.late_shape(signal))
    probs = ensemble_of(plan, folder).predict(*given)
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


def ensemble_of(plan: SealedPlan, folder: EvaluationFolder) -> SeedEnsemble:
    """Return the models of the plan's first arm, as `--register` reads them."""
    return registrable(plan, Path("tiny.toml"), folder, None, None, storage="")


def test_what_is_there_is_shown_tracked_once_and_not_replaced_by_other_records(
    run: Run, workspace: Path, folder: EvaluationFolder, ward: Path, scored: tuple[Path, str]
) -> None:
    shutil.copytree(scored[0], workspace, dirs_exist_ok=True)
    with mock.patch("study.sealed.opening.evaluate_records", never):
        for _ in range(2):  # the second adds nothing
            told = run("--records", ward, track=True).out
            assert "has a result on ward: shown as it is" in told
    # Another lead of the same name of records.
    said = refusal(run("--records", ward, "--lead", "aVF"))
    assert "has the result of other records or leads under the name 'ward'" in said
    split = workspace / "split.toml"
    split.write_text(f'name = "avf"\ndevelopment = {list(NAMES[:6])}\nlead = "aVF"\n')
    told = run("--records", ward, "--split", split, "--dry-run").out
    assert "leads: aVF (6)" in told
    assert told.endswith(f"the result would go to {folder.external('avf')}\n")
    runs = mlflow_runs(mlflow_client(workspace), EXPERIMENTS["synthetic"])
    kinds = Counter(run.data.tags["kind"] for run in runs)
    assert kinds == {"study": 1, "trial": 2, "floor": 5}
    assert {run.data.tags["stage"] for run in runs} == {"external"}
    (parent,) = [run for run in runs if run.data.tags["kind"] == "study"]
    assert parent.info.run_name == "tiny on ward"


def test_records_of_ds2_are_refused(run: Run, ward: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal = ward / "p01.dat"
    pass_for(monkeypatch, signal, "100.dat")
    said = refusal(run("--records", ward))
    assert f"{signal}: is 100.dat of MIT-BIH's DS2, which is sealed" in said


def test_records_that_cannot_test_a_model_are_refused_before_training(
    run: Run, workspace: Path, ward: Path, tmp_path: Path
) -> None:
    shutil.rmtree(workspace / "rehearsals")  # nothing is trained
    bare, normal = tmp_path / "bare", tmp_path / "normal"
    for folder in (bare, normal):
        shutil.copytree(ward, folder)
    for path in bare.glob("*.atr"):
        path.unlink()
    relabel(normal, "AaJSejVE", "N")
    for more, said in (
        ([bare], f"--records {bare}: none of 8 records has beats with "),
        ([ward, "--lead", "V9"], "must have a lead that is accepted, best first: V9; got"),
        ([normal], "no class but N can be scored: one of S, V, F needs 10 beats, got N "),
    ):
        assert said in refusal(run("--records", *more))
    assert not (workspace / "rehearsals").exists()


def test_a_registered_arm_is_the_champion_and_says_what_ds2_has_shown(
    run: Run, workspace: Path, opened: str
) -> None:
    (path,) = workspace.glob("rehearsals/*/opening_1/result.json")
    stored = json.loads(path.read_text())["arms"]["rr"]["ensemble"]["values"]
    value = score_text(stored["test_auprc_sv"][0])
    result = f"opening 1 of a SYNTHETIC DS2: test_ensemble_auprc_sv {value}"
    told = run("--register", "svt", "--dry-run", track=True).out
    assert "would be registered as svt@champion; nothing was\n" in told
    assert not (workspace / "mlflow.db").exists()
    told = run("--register", "svt", "--arm", "rr_placebo", track=True).out
    told += run("--register", "svt", track=True).out
    for said in (
        "arm rr_placebo: ",
        "arm rr: opt1 / trailing / rr_only / published7 / distances / real\n",
        f"  result on DS2: {result}\n",
        "registered as svt@champion: version 2 (before: version 1)\n",
        SYNTHETIC_MODEL,
    ):
        assert said in told, said
    version = mlflow_client(workspace).get_model_version_by_alias("svt", "champion")
    tags = {"plan_arm": "rr", "data_source": "synthetic", "ds2_result": result}
    assert tags.items() <= version.tags.items()


def test_what_cannot_be_registered_is_refused(
    run: Run, workspace: Path, folder: EvaluationFolder
) -> None:
    for more, said in (
        ("a/b", "model name: must be a text without / : @, got 'a/b'"),
        ("svt --arm rrr", "--arm: unknown arm 'rrr'; known: rr, rr_placebo. Did you"),
        ("svt --tracking-uri mongodb://nowhere", "'mongodb://nowhere': MLflow keeps runs in a da"),
    ):
        ended = run("--register", *more.split(), track=True)
        assert ended.code == 2 and said in ended.err
    assert "--no-track keeps MLflow out" in refusal(run("--register", "svt"))
    shutil.rmtree(folder.root)
    said = refusal(run("--register", "svt", track=True))
    assert "not trained; `python -m study.evaluate --plan tiny.toml --synthetic --stop-b" in said
    assert not (workspace / "mlflow.db").exists()


def test_description_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "ward"
    for name in ("a", "b", "c", "d"):
        write_record(folder, name, rate_hz=128, leads=("II", "aVF"), duration_s=20)
    (folder / "c.atr").unlink()
    wfdb.wrann("d", "atr", np.array([18]), symbol=["+"], write_dir=str(folder))
    external = find_external(folder)
    beats = prepare(external.source, "beat", "linear", cache_dir=tmp_path / "cache")
    presence = classes_present(beats, external.source.patients)
    lines = describe(external, beats, presence)
    assert lines == [
        f"external records 'ward' in {folder}: 2 records of 2 patients, {len(beats.label)} beats",
        "leads: II (2); sampling rates in Hz: 128 (2)",
        "beats left out: first or last beat 4",
        "no beats with classes, left out: c, d",
        "N has no part in the macro: 44 beats of 2 patients say as much as 2.0 patients would, "
        "needs 5.3",
        *(f"{name} has no part in the macro: absent" for name in "SVF"),
    ]
    alike = Doubled(samples=(100, 101), symbols=("N", "L"))
    doubled = {"a": (alike, Doubled(samples=(300, 303), symbols=("N", "S")))}
    unusable = {"d": "has no lead", "e": "has no lead"}
    odd = replace(external, doubled=doubled, unusable=unusable)
    more = describe(odd, beats, presence)
    assert [line for line in more if line not in lines] == [
        "cannot be used, left out: d and e: has no lead",
        "annotated more than once within 0.2 s, taken as one beat at the first mark: a (2)",
        "of these marked as different classes, left out as class Q: a (1; N and S at sample 300)",
    ]
    for name in ("a", "b"):
        (folder / f"{name}.atr").unlink()
    with pytest.raises(MissingDataError, match="none of 4 records has beats with classes"):
        find_external(folder)


def test_classes_that_hardly_any_patient_has_are_left_out_of_the_macro_and_why() -> None:
    beats = bare_beats(
        [(50, 0, 90, 1), (50, 0, 2, 2), (50, 0, 2, 3), (50, 0, 2, 3), (50, 0, 0, 0), (50, 0, 0, 0)]
    )
    patients = {name: name for name in "abcdef"}
    n, s, v, f = classes_present(beats, patients)
    assert n == ClassPresence(name="N", beats=300, patients=6, effective_patients=6.0, left_out="")
    assert (s.beats, s.patients, s.effective_patients, s.left_out) == (0, 0, 0.0, "absent")
    # (90 + 2 + 2 + 2)^2 / (90^2 + 3 * 2^2)
    assert v.effective_patients == pytest.approx(96**2 / 8112)
    assert v.left_out == ("96 beats of 4 patients say as much as 1.1 patients would, needs 5.3")
    assert f.left_out == "9 beats, needs 10"
    n, *_ = classes_present(beats, dict(zip("abcdef", "xxyyzz", strict=True)))
    assert (n.patients, n.effective_patients) == (3, 3.0), "records of one patient count once"
    assert n.left_out.endswith("needs 5.3")
