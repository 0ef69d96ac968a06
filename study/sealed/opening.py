"""Runs a sealed test in its fixed order: log the opening, read the records, predict, score, store.

Models and thresholds exist before (`study.sealed.training`), and the opening is on disk before the
test set is read. A failure after that leaves an opening without a result: the same plan, code and
models continue it, and it counts once. The same models can predict other records without an
opening.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import study as package
from study.config import Cut, TrialConfig, digest_of
from study.data.beat_set import BeatSet
from study.errors import DivergedError
from study.keys import CLASSES
from study.models import rules
from study.models.classifier import Classifier
from study.sealed.external import ExternalSet, classes_present, macro_of
from study.sealed.records import Records, read_test_set
from study.sealed.result import EXTERNAL, keep, keep_predictions
from study.sealed.scoring import (
    Exclusion,
    compare_arms,
    compare_ensembles,
    exclusions,
    score_arm,
)
from study.sealed.tables import Findings
from study.sealed.training import Prepared, cuts_of
from study.statistics.predictions import Beats
from study.store.openings import DS2, Opening, OpeningsLog
from study.training import floors
from study.training.device import DeviceBeats, resolve_device
from study.training.engine import Engine
from study.training.loop import check_cut
from study.training.member import predict, seed_inputs
from study.tuning.machine import git_commit, provenance

Say = Callable[[str], None]
"""Called with a message on progress."""


def open_test_set(prepared: Prepared, log: OpeningsLog) -> tuple[Opening, str]:
    """Record an opening, or return the one that left no result.

    Returns:
        The opening, and for the console why it is new or continued.

    Raises:
        StudyStateError: If the log cannot be read or written.
    """
    training = prepared.training
    plan, folder, records = training.plan, training.folder, training.records
    content = {
        "plan": plan.test.name,
        "plan_hash": plan.hash,
        "arms": [arm.name for arm in plan.arms],
        "contrasts": [list(pair) for pair in plan.test.contrasts],
        "metrics": list(plan.test.metrics),
        "seeds": plan.seeds,
        "commit": git_commit(),
        "code": code_digest(),
        "models": prepared.digest,
        "records": records.kind,
        "trained_on": {group.development: group.trained_on for group in training.groups},
        "test_set": records.test.dataset,
        "files": records.test_digest,
    }
    same = ("plan_hash", "code", "models", "files")
    earlier = log.of_plan(plan.hash)
    remark = ""
    if earlier and not folder.has_result(earlier[-1]):
        last = earlier[-1]
        if all(last.content.get(key) == content[key] for key in same):
            return last, ": continued, as it left no result; it counts once"
        remark = f": a new one, as code or models have changed since opening {last.number}"
    again = any(folder.has_result(opening) for opening in earlier)
    return log.append({**content, "again": again}), remark


def code_digest() -> str:
    """Return the digest of this package's code, which also tells apart uncommitted changes."""
    root = Path(package.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def evaluate_test_set(prepared: Prepared, opening: Opening, *, cache_dir: Path, say: Say) -> None:
    """Read the test set, predict it with every model, score the predictions, keep everything.

    Raises:
        DataError: If a record of it cannot be used.
        DivergedError: If a prediction is not finite.
    """
    training = prepared.training
    plan, records = training.plan, training.records
    sets = read_test_set(
        records, cuts_of(plan), cache_dir=cache_dir, study_seed=plan.test.study_seed
    )
    beats = beats_of(sets, records.test.patients, _macro(sets, records))
    which = "" if records.test.dataset == DS2 else f" of {records.test.dataset}"
    how = (
        f"Sealed test of plan {plan.title}, opening {opening.number}{which}, "
        f"{opening.content['time']}, commit {opening.content['commit']}.\n{_trained(prepared)}"
    )
    trained_on = [source.patients.values() for source in records.developments.values()]
    _evaluate(
        prepared,
        sets,
        beats,
        exclusions(beats, chain.from_iterable(trained_on)),
        subfolder=training.folder.opening(opening).name,
        records=records.test.dataset,
        how=how,
        about={"opening": dict(opening.content)},
        say=say,
    )


def _macro(sets: Mapping[Cut, BeatSet], records: Records) -> tuple[str, ...]:
    """Return the classes that the macro is the mean of: on DS2 all, as published figures have."""
    if records.test.dataset == DS2:
        return CLASSES
    return macro_of(classes_present(next(iter(sets.values())), records.test.patients))


def identity_of(external: ExternalSet, prepared: Prepared) -> str:
    """Return the identity of a result on other records: the records, the models and the code."""
    return digest_of([external.digest, prepared.digest, code_digest()])


def evaluate_records(prepared: Prepared, external: ExternalSet, *, say: Say) -> None:
    """Predict other records with every model, score the predictions and keep everything.

    Raises:
        DivergedError: If a prediction is not finite.
    """
    plan, folder = prepared.training.plan, prepared.training.folder
    records, source = external.external, external.external.source
    beats = beats_of(external.sets, source.patients, external.macro)
    about = {
        "name": external.name,
        "identity": identity_of(external, prepared),
        "records": external.digest,
        "source": source.kind,
        "folder": source.where,
        "leads": records.leads,
        "sampling_rates_hz": records.rates_hz,
        "doubled": {
            name: [asdict(b) for b in beats_of_record]
            for name, beats_of_record in records.doubled.items()
        },
        "without_beats": records.without_beats,
        "dropped": next(iter(external.sets.values())).dropped,
        "macro": external.macro,
        "classes": [asdict(presence) for presence in external.presence],
    }
    how = (
        f"External test of plan {plan.title} on {external.name}, commit {git_commit()}. Nothing "
        f"was opened.\n{_trained(prepared)}\n{external.text()}"
    )
    # A replaced result must be tracked again.
    folder.forget_tracked(folder.external(external.name))
    _evaluate(
        prepared,
        external.sets,
        beats,
        exclusions(beats, ()),
        subfolder=f"{EXTERNAL}/{external.name}",
        records=external.name,
        how=how,
        about={EXTERNAL: about},
        say=say,
    )


def _trained(prepared: Prepared) -> str:
    training = prepared.training
    groups, sentences = training.groups, []
    for group in groups:
        names = ", ".join(arm.name for arm in group.arms) if groups[1:] else "Every arm"
        sentences.append(
            f"{names}: {training.plan.seeds} models{'' if groups[1:] else ', each'} trained on "
            f"{group.trained_on} ({len(group.models.beats.label):,} beats)"
        )
    return f"{'; '.join(sentences)}; {groups[0].models.job.engine}."


def _evaluate(
    prepared: Prepared,
    sets: Mapping[Cut, BeatSet],
    beats: Beats,
    left_out: Sequence[Exclusion],
    *,
    subfolder: str,
    records: str,
    how: str,
    about: Mapping[str, Any],
    say: Say,
) -> None:
    plan, folder = prepared.training.plan, prepared.training.folder
    job = prepared.training.groups[0].models.job
    log_probs = predictions(prepared, sets, say)
    # Predictions are stored first: everything else can be computed from them again.
    keep_predictions(plan, folder, subfolder, beats=beats, log_probs=log_probs)
    arms = []
    for name, values in log_probs.items():
        say(f"scoring {name}")
        arms.append(score_arm(name, values, beats, prepared.thresholds[name], left_out))
    findings = Findings(
        plan=plan,
        how=how,
        arms=arms,
        left_out=left_out,
        comparisons=compare_arms(plan, log_probs, beats, say),
        ensembles=compare_ensembles(plan, log_probs, beats, say),
        records=records,
        macro=beats.macro,
    )
    models = {
        "engine": str(job.engine),
        "provenance": provenance(job.device),
        "trained_by": list(prepared.trained_by),
    }
    keep(plan, folder, subfolder, about={**about, **models}, beats=beats, findings=findings)


def beats_of(
    sets: Mapping[Cut, BeatSet], patients: Mapping[str, str], macro: tuple[str, ...] = CLASSES
) -> Beats:
    """Return the beats of all cuts, with all records in fold 0."""
    beat_set = next(iter(sets.values()))
    names = beat_set.record_names
    return Beats(
        label=beat_set.label,
        record=beat_set.record,
        record_names=names,
        patient_of_record=tuple(patients[name] for name in names),
        folds_of_record=(tuple(0 for _ in names),),
        macro=macro,
    )


def predictions(
    prepared: Prepared, sets: Mapping[Cut, BeatSet], say: Say
) -> dict[str, NDArray[np.float32]]:
    """Return the log-probabilities of every arm, [S, N, C], then of the floors, [1, N, C]."""
    # One model at a time on one thread: the last bits then do not depend on the number of cores.
    torch.set_num_threads(1)
    training = prepared.training
    device = resolve_device(training.groups[0].models.job.device)
    placed = {cut: DeviceBeats(beat_set, device) for cut, beat_set in sets.items()}
    log_probs = {}
    for arm in training.plan.arms:
        say(f"predicting with {arm.name}")
        log_probs[arm.name] = predict_all(
            prepared.ensembles[arm.name].models,
            arm.config,
            placed[arm.cut],
            study_seed=training.plan.test.study_seed,
            seeds=training.plan.seed_indices,
            engine=training.engine_here,
        )
    for name, floor in prepared.floors.items():
        log_probs[name] = floor(sets[floors.FLOOR_CUT])
    return log_probs


def predict_all(
    models: Sequence[Classifier],
    config: TrialConfig,
    beats: DeviceBeats,
    *,
    study_seed: int,
    seeds: Sequence[int],
    engine: Engine,
) -> NDArray[np.float32]:
    """Return each model's log-probabilities of unseen beats, [S, N, C].

    The models, one for each seed, are moved to the beats' device. Under a placebo `study_seed`,
    that of their training, permutes RR within these records.

    Raises:
        ConfigError: If the configuration needs beats cut in another way.
        DivergedError: If a prediction is not finite.
    """
    check_cut(config, beats.beats)
    run_backbone = engine.backbone(beats.device)
    index = torch.arange(len(beats.beats.label), device=beats.device)
    by_seed = []
    for model, seed in zip(models, seeds, strict=True):
        inputs = seed_inputs(config, beats, study_seed=study_seed, seed_index=seed)
        model.to(beats.device).run_by(run_backbone)
        log_probs = predict(model, inputs, index)
        if not bool(log_probs.isfinite().all()):
            raise DivergedError(
                f"diverged: a prediction is not finite, seed {seed}; configuration "
                f"{rules.digest(config)}: {config.flat()}"
            )
        by_seed.append(log_probs.cpu().numpy())
    return np.stack(by_seed)
