"""What several test files build: plans, trials, spaces, beats, archives, reports."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, create_trial

from study.config import N_SAMPLES, TrialConfig
from study.data import fetch
from study.data.beat_set import BeatSet, Reliance
from study.data.folds import Folds
from study.data.source import Source
from study.errors import SpaceError
from study.keys import AUPRC_SV, CLASSES, EPOCH, Outcome, Tag
from study.models import rules
from study.reporting.classified import ClassifiedRecord
from study.spaces import toml_file
from study.spaces.load import checked_space, load_space
from study.spaces.space import Space
from study.statistics.comparison import compare
from study.statistics.findings import Comparison
from study.statistics.predictions import ArmRuns, Beats
from study.store.plan import StudyPlan
from study.store.storage import Storage
from study.store.study import Places, Study
from study.store.trials import STATES, Proposal, TrialRow, Trials
from study.training.loop import TrialTraining
from study.tuning.setup import Setup, set_up
from study.tuning.trial import BUSY_SECONDS, METRICS, NOTE


def study_plan(**changes: Any) -> StudyPlan:
    """Return the plan of a tiny search; give what is otherwise."""
    plan = StudyPlan(
        name="tiny",
        space="tiny",
        space_digest="0" * 12,
        kind="search",
        objective="val_auprc_sv",
        sampler="tpe",
        scheduler="asha",
        reduction_factor=2,
        trials=3,
        epochs=6,
        folds="2-fold, partition seed 0",
        fold_fingerprint="1" * 12,
        n_folds=2,
        n_seeds=1,
        study_seed=0,
        engine="fp32, not compiled",
        data_source="synthetic",
        data_fingerprints={"daeac/linear": "2" * 12},
    )
    return replace(plan, **changes)


def trial_row(number: int = 0, arm: str = "film", **changes: Any) -> TrialRow:
    """Return a complete trial of six epochs without metrics; give what is otherwise."""
    row = TrialRow(
        number=number,
        digest=f"d{number}",
        arm=arm,
        params={},
        outcome=Outcome.COMPLETE,
        epochs=6,
        full_epochs=6,
    )
    return replace(row, **changes)


def small_config(**values: Any) -> TrialConfig:
    """Return a configuration that trains in a moment: `rr_only` for two epochs by default."""
    small = {"epochs": 2, "batch_size": 32, "normal_beats_per_epoch": 40, "embed_dim": 8}
    return TrialConfig.from_flat({"input": "opt1", "fusion": "rr_only", **small, **values})


def small_training(beats: BeatSet, folds: Folds, **values: Any) -> TrialTraining:
    """Return the training of a `small_config`, on as many seeds and as is said."""
    usual: dict[str, Any] = {"n_seeds": 1, "engine": None, "screening": False}
    given = {name: values.pop(name, value) for name, value in usual.items()}
    return TrialTraining(small_config(**values), beats, folds, study_seed=0, **given)


def proposal(config: TrialConfig, **more: Any) -> Proposal:
    """Return the proposal of a configuration, as the first attempt at it by default."""
    facts = {"digest": rules.digest(config), "arm": rules.arm(config), "params": {}}
    return Proposal(config=config, **{**facts, **more})


def optuna_trial(
    row: TrialRow, config: TrialConfig, curve: Mapping[int, float] | None = None
) -> FrozenTrial:
    """Return a trial that has ended as Optuna's storage has it; `curve` is its score by epoch."""
    last = {row.epochs: row.metric(AUPRC_SV)} if row.epochs and AUPRC_SV in row.metrics else {}
    params: dict[str, Any] = dict(row.params)
    trial = create_trial(
        state=STATES[row.outcome],
        params=params,
        distributions={name: CategoricalDistribution([v]) for name, v in params.items()},
        value=row.metric(AUPRC_SV) if row.outcome is Outcome.COMPLETE else None,
        intermediate_values=dict(curve) if curve else last,
        user_attrs={
            Tag.DIGEST: row.digest,
            Tag.ARM: row.arm,
            Tag.ATTEMPT: 1,
            Tag.OUTCOME: str(row.outcome),
            Tag.CAUSE: row.cause,
            "config": rules.active_parameters(config),
            "metrics": dict(row.metrics),
            "epochs": row.epochs,
            "seconds": row.seconds,
            "draw": row.draw,
            "index": row.number,
            "protected": False,
        },
    )
    trial.number = row.number
    return trial


def study_of(
    folder: Path, plan: StudyPlan, trials: Iterable[tuple[TrialRow, TrialConfig]], **changes: Any
) -> Study:
    """Return a study of trials that have ended, as it would be read from its storage."""
    every = tuple(optuna_trial(row, config) for row, config in trials)
    read = Trials(all=every, epochs=plan.epochs)
    return Study(**{"places": Places(folder=folder), "plan": plan, "trials": read, **changes})


MIXED = """
description = "every kind of parameter"
search = { sampler = "tpe", trials = 12 }
fixed = { segmentation = "beat" }
[params]
heads = { values = [1, 2], when = { fusion = ["mhca", "mhca_time"] } }
fusion = { values = ["film", "mhca", "mhca_time"] }
embed_dim = { low = 16, high = 48, step = 16 }
dropout = { low = 0.1, high = 0.5, step = 0.2 }
learning_rate = { low = 1e-4, high = 1e-2, log = true }
loss = { values = ["cross_entropy", "focal"] }
focal_gamma = { low = 1, high = 3, step = 1, default = 1, when = { loss = ["focal"] } }
"""
"""A space with conditions and every kind of parameter."""


SEALED_PLAN = """
description = "d"
[compare]
draws = 1
folds = "all"
seeds = 10
[test]
name = "mine"
[[arms]]
name = "film"
fusion = "film"
placebo = true
"""
"""A plan of a sealed test that says no more than it must."""


RATES: dict[str, Any] = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
"""A parameter of which no two draws are equal."""


def space_toml(
    params: Mapping[str, Any],
    *,
    fixed: Mapping[str, Any],
    settings: Mapping[str, Any],
    arms: Sequence[Mapping[str, Any]] = (),
    description: str = "tiny",
) -> str:
    """Return the text of a search, or of a comparison where there are arms.

    A parameter is a list of values, or a mapping of what its section says.
    """
    sections = [("[compare]" if arms else "[search]", settings), ("[fixed]", fixed)]
    sections += [("[[arms]]", arm) for arm in arms]
    for name, param in params.items():
        section = param if isinstance(param, Mapping) else {"values": param}
        sections.append((f"[params.{name}]", section))
    lines = [f"description = {json.dumps(description)}"]
    for head, section in sections:
        lines += [head, *(f"{name} = {_toml(value)}" for name, value in section.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(v)}" for name, v in value.items()) + " }"
    return json.dumps(value)


def space_of(text: str) -> Space:
    """Build a space of this text without a file; it has no fault of form."""
    tables, _ = toml_file.read_tables(text)
    fields, faults = toml_file.parse_tables(tables)
    assert faults == []
    return Space(name="s", path=Path("s.toml"), text=text, **fields)


def checked_space_of(text: str) -> Space:
    """Build a space of this text without a file, checked in full."""
    tables, faults = toml_file.read_tables(text)
    assert faults == []
    return checked_space(tables, Path("s.toml"), text)


def faults_of_space(text: str) -> list[str]:
    """Return the faults that a space of this text is refused with."""
    with pytest.raises(SpaceError) as caught:
        checked_space_of(text)
    head, *faults = str(caught.value).split("\n  - ")
    return faults or [head.removeprefix("s.toml: ")]


def load_text(folder: Path, text: str, name: str = "tiny") -> Space:
    """Load a space of this text from a file in a folder, checked in full."""
    path = folder / f"{name}.toml"
    path.write_text(text, encoding="utf-8")
    return load_space(path)


def set_up_study(folder: Path, text: str, source: Source, **options: Any) -> Setup:
    """Set up the study of a space's text on records, in a folder; give what is otherwise."""
    usual = {"name": "mine", "study_seed": 0, "partition_seed": 0, "device": "cpu"}
    places = {"storage": Storage.at(folder / "trials"), "cache_dir": folder / "beats"}
    return set_up(load_text(folder, text), source, **{**usual, **places, **options})


def write_record(
    folder: Path,
    name: str,
    *,
    rate_hz: float = 360,
    duration_s: float = 10.0,
    leads: Sequence[str] = ("MLII", "V1"),
    unit: str = "mV",
    signal: NDArray[np.float64] | None = None,
    symbols: str = "N",
    fmt: str = "16",
) -> NDArray[np.int64]:
    """Write a WFDB record of narrow peaks, 0.8 s apart; return the sample of each beat's mark."""
    import wfdb

    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    beats_s = np.arange(0.5, duration_s - 0.3, 0.8)
    peaks = np.exp(-0.5 * ((t[:, None] - beats_s) / 0.012) ** 2).sum(axis=1)
    if signal is None:
        # Channels differ in height, so that a test can tell which one was read.
        signal = peaks[:, None] * (1.0 + np.arange(len(leads)))
    wfdb.wrsamp(
        path.name,
        fs=rate_hz,
        units=[unit] * len(leads),
        sig_name=list(leads),
        p_signal=signal,
        fmt=[fmt] * len(leads),
        adc_gain=[1000.0 if fmt == "16" else 200.0] * len(leads),
        baseline=[0] * len(leads),
        write_dir=str(path.parent),
    )
    samples = np.rint(beats_s * rate_hz).astype(np.int64)
    cycled = [symbols[i % len(symbols)] for i in range(len(samples))]
    wfdb.wrann(path.name, "atr", samples, symbol=cycled, write_dir=str(path.parent))
    return samples


def write_split(folder: Path, names: Sequence[str]) -> Path:
    """Write `split.toml`, by which these records are a data set of one's own."""
    path = folder / "split.toml"
    path.write_text(f'name = "tiny"\ndevelopment = {json.dumps(list(names))}\n')
    return path


def bare_beats(
    counts: NDArray[np.int64] | Sequence[Sequence[int]],
    names: Sequence[str] = "abcdefgh",
    **changes: Any,
) -> BeatSet:
    """Return beats of which only record and label matter; counts [records, classes]."""
    rows = np.asarray(counts)
    record = np.repeat(np.arange(len(rows)), rows.sum(axis=1))
    beats = BeatSet(
        dataset="DS1",
        source="synthetic",
        segmentation="daeac",
        resampling="linear",
        record_names=tuple(names[: len(rows)]),
        record=record,
        r_peak_sample=np.arange(len(record)),
        label=np.concatenate([np.repeat(np.arange(len(CLASSES)), row) for row in rows]),
        ecg=np.zeros((0, N_SAMPLES), np.float32),
        rr={},
        reliance=Reliance(beats=record[:0], donors=record[None, :0], windows=None),
        dropped={},
        fingerprint="",
    )
    return replace(beats, **changes)


def stored_beats(
    beats: BeatSet,
    folds: Folds | None = None,
    patients: Sequence[str] | None = None,
    partitions: int = 1,
) -> bytes:
    """Return a study's `beats.npz`; without folds, its records are in two by turns.

    All partitions are alike.
    """
    names = beats.record_names
    fold_of = {name: number % 2 for number, name in enumerate(names)}
    for number, validation in enumerate(folds.validation if folds else ()):
        fold_of |= dict.fromkeys(validation, number)
    return npz(
        label=beats.label,
        record=beats.record,
        record_names=np.asarray(names),
        folds_of_record=np.asarray([[fold_of[name] for name in names]] * partitions),
        patient_of_record=np.asarray(list(patients or names)),
    )


def assert_same_beats(one: BeatSet | None, other: BeatSet | None) -> None:
    """Compare two beat sets to the last bit."""
    assert one is not None and other is not None
    np.testing.assert_equal(asdict(one), asdict(other))
    assert one.ecg.dtype == other.ecg.dtype and one.ecg.flags.writeable


def pass_for(monkeypatch: pytest.MonkeyPatch, path: Path, published: str) -> None:
    """Let a file pass for one of MIT-BIH's, such as 100.dat."""
    checksums = {**fetch.published_checksums(), published: fetch.sha256_of(path)}
    monkeypatch.setattr(fetch, "published_checksums", lambda *_: checksums)


MakeArm = Callable[..., ArmRuns]
"""What the fixture `make_arm` gives."""


def arm_runs(name: str, log_probs: NDArray[np.floating], seeds: int, **changes: Any) -> ArmRuns:
    """Return an arm's predictions [R, N, C], each draw with so many seeds; give what differs."""
    run = np.arange(len(log_probs))
    usual: dict[str, Any] = {
        "name": name,
        "log_probs": log_probs.astype(np.float32),
        "draw": run // seeds,
        "seed": run % seeds,
        "input": "opt1",
        "window": "beat",
        "fusion": "film",
    }
    return ArmRuns(**{**usual, **changes})


def arm_of(
    beats: Beats, name: str = "film", *, draws: int = 2, seeds: int = 3, **changes: Any
) -> ArmRuns:
    """Return an arm that ranks the beats better than chance by 1 + `better`, with many ties."""
    rng = np.random.default_rng(list(name.encode()))
    own = np.arange(len(CLASSES)) == beats.label[:, None]
    better = changes.pop("better", 0.0)
    noise = rng.normal(size=(draws * seeds, len(beats.label), len(CLASSES)))
    log_probs = np.round(noise + (1.0 + better) * own, 1) - 10.0  # below 0, as logarithms are
    log_probs[:, ~beats.held_out[beats.record]] = np.nan
    return arm_runs(name, log_probs, seeds, **changes)


def refused(error: type[Exception], call: Callable[..., object], *given: Any, **more: Any) -> str:
    with pytest.raises(error) as caught:
        call(*given, **more)
    return str(caught.value)


def mlflow_client(workspace: Path, uri: str | None = None) -> Any:
    """Return a client of MLflow's own for the store of a workspace, or at an address."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri or f"sqlite:///{workspace / 'mlflow.db'}")


def mlflow_runs(client: Any, experiment: str, terms: str = "") -> list[Any]:
    """Return the runs of an experiment, of which such terms hold."""
    id_ = client.get_experiment_by_name(experiment).experiment_id
    return list(client.search_runs([id_], filter_string=terms))


Curves = dict[str, list[tuple[int, float]]]
"""Steps and values by the name of a metric."""


def mlflow_curves(client: Any, run: Any) -> Curves:
    """Return all points that MLflow has of a run, by step."""
    history = client.get_metric_history
    return {
        name: sorted((point.step, point.value) for point in history(run.info.run_id, name))
        for name in run.data.metrics
    }


CONTRASTS = (("film", "film_placebo"), ("film", "concat"))
"""The primary family of `compared`."""


def compared(beats: Beats, arms: Sequence[ArmRuns], **changes: Any) -> Comparison:
    """Compare some arms by few resamples and swaps; give what is otherwise."""
    usual: dict[str, Any] = {"contrasts": CONTRASTS, "resamples": 200, "permutations": 300}
    return compare(beats, arms, **{**usual, **changes})


def ended_process() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def report(epoch: int, metrics: Mapping[str, float], **changes: Any) -> dict[str, Any]:
    """Return what a trial's worker reports at the end of an epoch."""
    return {
        EPOCH: epoch,
        METRICS: dict(metrics),
        NOTE: "",
        BUSY_SECONDS: 0.9 * epoch,
        Tag.OUTCOME: "",
        Tag.CAUSE: "",
        **changes,
    }


def classified(
    classes: str,
    *,
    duration_s: float = 60.0,
    height_mv: float = 1.0,
    annotated: str | None = None,
    signal_mv: NDArray[np.float32] | None = None,
) -> ClassifiedRecord:
    """Return a record at 250 Hz with a beat each second from 0.5 s on; `-` has no class."""
    samples = ((np.arange(len(classes)) + 0.5) * 250.0).astype(np.int64)
    probs = np.full((len(classes), 4), np.nan, dtype=np.float32)
    for k, name in enumerate(classes):
        if name != "-":
            probs[k] = np.where(np.arange(4) == "NSVF".index(name), 0.97, 0.01)
    if signal_mv is None:
        signal_mv = np.zeros(round(duration_s * 250.0), dtype=np.float32)
        signal_mv[samples] = height_mv
    return ClassifiedRecord(
        name="p01",
        lead="II",
        sampling_rate_hz=250.0,
        signal_mv=signal_mv,
        samples=samples,
        probs=probs,
        left_out=np.array(["first or last beat" if name == "-" else "" for name in classes]),
        annotated=None if annotated is None else np.array(list(annotated)),
    )


def low_rank() -> str:
    """Return the plug-in that docs/plugins.md writes."""
    page = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()
    return page.split("```python\n")[1].split("```")[0]
