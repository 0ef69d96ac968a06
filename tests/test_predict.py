"""The command that classifies records, from arguments to files."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import wfdb

from study import predict
from study.config import TrialConfig
from study.data.external import find_external
from study.data.prepare import prepare
from study.data.synthetic import write_records
from study.models.classifier import build_model
from study.models.seed_ensemble import SeedEnsemble
from study.tracking.registry import HOW
from tests.builders import pass_for
from tests.command import Ended, here

ABOUT = {"trained_on": "random numbers", "data_source": "synthetic"}
MODEL = ("--model", "model.pt")
NO_STRIP = ("--plot-seconds", 0)


@pytest.fixture(scope="module")
def ensemble() -> SeedEnsemble:
    """A small ensemble with random weights."""
    config = TrialConfig.from_flat({"input": "opt3", "fusion": "film", "embed_dim": 8})
    states = [build_model(config.signal, config.model, seed=(s,)).state_dict() for s in range(2)]
    return SeedEnsemble.of_weights(config, states, ABOUT)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients at 257 Hz, the second without annotations."""
    folder = tmp_path_factory.mktemp("records")
    write_records(
        folder, names=("p01", "p02"), duration_s=40, sampling_rate_hz=257, leads=("II", "V5")
    )
    (folder / "p02.atr").unlink()
    return folder


@pytest.fixture
def workspace(ensemble: SeedEnsemble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run in, with the file of the ensemble."""
    (tmp_path / "model.pt").write_bytes(ensemble.content())
    monkeypatch.chdir(tmp_path)
    return tmp_path


Run = Callable[..., Ended]


@pytest.fixture
def run(workspace: Path) -> Run:
    return lambda *words: here(workspace, ["--record", *map(str, words)], predict.main)


def test_a_record_becomes_annotations_a_table_and_a_strip(
    run: Run, workspace: Path, records: Path, ensemble: SeedEnsemble
) -> None:
    # As a shell gives p01*: three files of one record.
    ended = run(*(records / f"p01.{suffix}" for suffix in ("atr", "dat", "hea")), *MODEL)
    assert ended.code == 0
    out = workspace / "predictions"
    written = ("ecgrr", "csv", "png", "html")
    assert sorted(path.name for path in out.iterdir()) == sorted(f"p01.{s}" for s in written)

    truth = wfdb.rdann(str(records / "p01"), "atr")
    is_beat = [symbol not in "+~|" for symbol in truth.symbol]
    marks = wfdb.rdann(str(out / "p01"), "ecgrr")
    np.testing.assert_array_equal(marks.sample, truth.sample[is_beat])
    assert marks.fs == 257
    with (out / "p01.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sample"]) for row in rows] == marks.sample.tolist()
    assert [row["class"] or "Q" for row in rows] == marks.symbol
    assert float(rows[5]["time_s"]) == pytest.approx(marks.sample[5] / 257, abs=1e-4)
    assert rows[0]["why_none"] == rows[-1]["why_none"] == "first or last beat"

    # The same probabilities as a test of the same records gives.
    source = find_external(records).source
    beats = prepare(source, "daeac", "linear", cache_dir=workspace / "cache")
    signal = ensemble.config.signal
    probs = ensemble.predict(beats.ecg, beats.early_rr(signal), beats.late_rr(signal))
    classified = [row for row in rows if not row["why_none"] and row["own_label"] != "Q"]
    told = [[float(row[f"prob_{name}"]) for name in "NSVF"] for row in classified]
    np.testing.assert_allclose(told, probs, atol=1e-6)
    assert [row["class"] for row in classified] == ["NSVF"[c] for c in probs.argmax(axis=1)]

    assert ended.out.startswith(
        "model: model.pt: opt3 / daeac / film / published7 / real, 2 networks\n"
        "       trained on random numbers\n"
        "       note: trained on SYNTHETIC records: its classes say nothing about patients\n"
        "record p01: lead II, 257 Hz, resampled to 360 Hz, 0:40\n"
        f"  {len(rows)} beats: N "
    )
    assert "note: models trained on MIT-BIH have seen lead MLII alone, not II" in ended.out
    assert "beside its own labels (one record is no test):" in ended.out
    files = ", ".join(f"predictions/p01.{suffix}" for suffix in written)
    assert ended.out.endswith(f"  wrote {files}\n")
    page = (out / "p01.html").read_text()
    for text in ("have seen lead MLII alone", 'src="p01.png"', "random numbers", "own label"):
        assert text in page, text


def test_beats_are_found_where_none_is_annotated(run: Run, workspace: Path, records: Path) -> None:
    told = run(records / "p02", *MODEL, *NO_STRIP).out
    table = (workspace / "predictions" / "p02.csv").read_text().splitlines()
    own_label = table[0].split(",").index("own_label")
    assert len(table) > 31
    assert {line.split(",")[own_label] for line in table[1:]} == {""}
    assert not (workspace / "predictions" / "p02.png").exists()
    assert "note: it has no beat annotations: R peaks are found by GQRS of" in told
    assert "own labels" not in told
    told = run(records / "p01", "--detect", *MODEL, *NO_STRIP).out
    assert "note: --detect: R peaks are found by GQRS of" in told


def test_files_are_replaced_only_when_asked(run: Run, workspace: Path, records: Path) -> None:
    command = (records / "p01", *MODEL, *NO_STRIP)
    assert run(*command).code == 0
    table = workspace / "predictions" / "p01.csv"
    table.write_text("my notes")
    refused = "already there; --overwrite replaces, --out DIR writes elsewhere"
    assert run(*command) == Ended(
        2, "", f"error: --out: predictions/p01.ecgrr, predictions/p01.csv: {refused}\n"
    )
    assert table.read_text() == "my notes"
    assert run(*command, "--overwrite").code == 0
    assert table.read_text().startswith("sample,time_s,class,")


def test_a_bad_record_does_not_stop_the_others(run: Run, workspace: Path, records: Path) -> None:
    missing = f"error: {records}/p99: no .hea file\n"
    assert run(records / "p99", records / "p01", *MODEL) == Ended(2, "", missing)
    folder = f"error: {records}: is a folder, and no record; name one in it, as {records}/p01\n"
    assert run(records, *MODEL) == Ended(2, "", folder)
    (workspace / "p03.hea").touch()
    (workspace / "p03").mkdir()  # a folder beside a record may have its name
    ended = run("p03", records / "p01", *MODEL, "--plot-from", "0:05")
    assert (ended.code, ended.err[:43]) == (1, "error: p03.hea: cannot be read as a WFDB he")
    assert (workspace / "predictions" / "p01.png").stat().st_size > 20_000
    ended = run(records / "p01", *MODEL, "--out", "other", "--plot-from", "1:00")
    lead = run(records / "p01", *MODEL, "--lead", "III", "--overwrite")
    accepted = "must have a lead that is accepted, best first: III; got II, V5"
    said = f"error: {records}/p01.hea: {accepted}; give one that it has, as in --lead II\n"
    assert (lead.code, lead.err) == (1, said)
    message = "error: record p01: --plot-from: must be before its end at 40 s, got 60 s\n"
    assert (ended.code, ended.err) == (1, message)
    assert not (workspace / "other").exists()


def test_sealed_records_are_refused_and_trained_ones_told(
    run: Run, workspace: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (records / "p01", *MODEL, *NO_STRIP)
    pass_for(monkeypatch, records / "p01.dat", "208.dat")
    assert "a model trained on DS1 has learnt this very record" in run(*command).out
    pass_for(monkeypatch, records / "p01.dat", "100.dat")
    ended = run(*command, "--out", "other")
    assert (ended.code, ended.out) == (2, "")
    assert "p01.dat: is 100.dat of MIT-BIH's DS2, which is sealed" in ended.err
    assert not (workspace / "other").exists()


def test_one_name_twice_and_no_model_are_refused(run: Run, workspace: Path, records: Path) -> None:
    twice = "error: --out: two records would write predictions/p01.csv\n"
    assert run(records / "p01", workspace / "p01.hea", *MODEL) == Ended(2, "", twice)
    place = "error: --out: model.pt: must be a folder; name another\n"
    assert run(records / "p01", *MODEL, "--out", "model.pt") == Ended(2, "", place)
    none = f"error: --model: there is no MLflow store at sqlite:///{workspace}/mlflow.db; {HOW}\n"
    assert run(records / "p01", "--model", "svt") == Ended(2, "", none)
    none = f"error: --model models/none.pt: no such file; {HOW}\n"
    assert run(records / "p01", "--model", "models/none.pt") == Ended(2, "", none)
    assert [path.name for path in workspace.iterdir()] == ["model.pt"]


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30.5", 90.5), ("1:00:01", 3601)])
def test_times_are_given_in_seconds_or_as_on_a_clock(text: str, seconds: float) -> None:
    words = ["--record", "a", "--plot-from", text]
    assert predict._parser().parse_args(words).plot_from == seconds
