"""A sealed test from the prepared models to the stored result: log, open, predict, score, keep.

The opening is on disk before DS2 is read. What fails after that leaves an opening without a
result: the same plan, code and models continue it, and it counts once.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import study as package
from study.data.beatset import BeatSet
from study.data.prepare import Cut
from study.models import rules
from study.reporting.comparison import compare
from study.reporting.findings import MEASURE_NAMES, Comparison
from study.reporting.predictions import ArmRuns, Beats
from study.sealed.folder import PER_RECORD, PREDICTIONS, RESULT, TABLES, EvaluationFolder
from study.sealed.plan import FLOOR, SealedPlan
from study.sealed.preparation import Prepared, cuts_of, seeds_of
from study.sealed.records import Records, read_ds2
from study.sealed.scoring import Half, exclusions, score_arm
from study.sealed.tables import Findings, result_text
from study.sealed.thresholds import ensemble_of
from study.tracking.openings import Opening, OpeningsLog
from study.training.device import DeviceBeats, resolve_device
from study.training.final import predict_all
from study.tuning import floors
from study.tuning.plan import provenance


def open_ds2(
    plan: SealedPlan,
    prepared: Prepared,
    records: Records,
    folder: EvaluationFolder,
    log: OpeningsLog,
) -> tuple[Opening, str]:
    """Write an opening down, or return the one that left no result.

    Returns:
        The opening, and why it is another one or no new one, for the console.

    Raises:
        StudyStateError: If the log cannot be read or written.
    """
    content = {
        "plan": plan.name,
        "plan_hash": plan.hash,
        "arms": [arm.name for arm in plan.arms],
        "contrasts": [list(pair) for pair in plan.contrasts],
        "metrics": list(plan.metrics),
        "seeds": plan.seeds,
        "commit": prepared.job.commit,
        "code": code_digest(),
        "models": prepared.digest,
        "records": records.source.kind,
        "ds2": records.ds2_digest,
    }
    same = ("plan_hash", "code", "models", "ds2")
    earlier = [opening for opening in log.read() if opening.content.get("plan_hash") == plan.hash]
    why = ""
    if earlier and not folder.has_result(earlier[-1]):
        last = earlier[-1]
        if all(last.content.get(key) == content[key] for key in same):
            return last, ": continued, as it left no result; it counts once"
        why = f": a new one, as code or models have changed since opening {last.number}"
    again = any(folder.has_result(opening) for opening in earlier)
    return log.append({**content, "again": again}), why


def code_digest() -> str:
    """Return the digest of this package's code: what a commit says of a clean checkout."""
    root = Path(package.__file__).parent
    found = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(str(path.relative_to(root)).encode())
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def evaluate(
    plan: SealedPlan,
    prepared: Prepared,
    records: Records,
    folder: EvaluationFolder,
    opening: Opening,
    *,
    cache_dir: Path,
    say: Callable[[str], None],
) -> None:
    """Read DS2, predict it with every model, score the predictions and keep everything.

    Args:
        plan: The plan.
        prepared: Its models and thresholds.
        records: Where DS2 is.
        folder: Where the result goes.
        opening: The opening that this is.
        cache_dir: Folder of prepared beats.
        say: Told about progress.

    Raises:
        DataError: If a record of DS2 cannot be used.
        DivergedError: If a prediction is not finite.
    """
    sets = read_ds2(records, cuts_of(plan), cache_dir=cache_dir, study_seed=plan.study_seed)
    beats = _beats(next(iter(sets.values())), records)
    log_probs = predictions(plan, prepared, sets, say)
    left_out = exclusions(beats, records.source.patients.values())
    arms = []
    for name, values in log_probs.items():
        say(f"scoring {name}")
        arms.append(score_arm(name, values, beats, prepared.thresholds[name], left_out))
    compared = comparisons(plan, log_probs, beats, say)
    ensembles = compare_ensembles(plan, log_probs, beats, say)
    findings = Findings(
        plan=plan,
        how=_how(plan, prepared, opening),
        arms=arms,
        left_out=left_out,
        comparisons=compared,
        ensembles=ensembles,
    )
    _keep(
        plan,
        prepared,
        folder,
        opening,
        beats=beats,
        log_probs=log_probs,
        findings=findings,
    )


def _how(plan: SealedPlan, prepared: Prepared, opening: Opening) -> str:
    job = prepared.job
    n_beats = len(next(iter(job.beats.values())).label)
    return (
        f"Sealed test of plan {plan.title}, opening {opening.number}, "
        f"{opening.content['time']}, commit {opening.content['commit']}.\n"
        f"Every arm: {plan.seeds} models, each trained on {job.records} ({n_beats:,} beats); "
        f"{job.engine}."
    )


def predictions(
    plan: SealedPlan,
    prepared: Prepared,
    sets: Mapping[Cut, BeatSet],
    say: Callable[[str], None],
) -> dict[str, NDArray[np.float32]]:
    """Return the log-probabilities of every arm, [S, N, C], the floor's last, [1, N, C]."""
    # One model after the other on one thread: its last bits do not depend on the machine's cores.
    torch.set_num_threads(1)
    job = prepared.job
    device = resolve_device(job.device)
    placed = {key: DeviceBeats(beat_set, device) for key, beat_set in sets.items()}
    found = {}
    for arm in plan.arms:
        say(f"predicting with {arm.name}")
        found[arm.name] = predict_all(
            prepared.ensembles[arm.name].models,
            arm.config,
            placed[arm.cut],
            study_seed=plan.study_seed,
            seeds=seeds_of(plan),
            engine=job.engine,
        )
    training, test = job.beats[floors.FLOOR_CUT], sets[floors.FLOOR_CUT]
    found[FLOOR] = floors.on_others(FLOOR, training, test)
    return found


def comparisons(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> dict[str, Comparison]:
    """Return what the comparison of each of the plan's metrics finds, and of each measure.

    Args:
        plan: The plan.
        log_probs: [S, N, C] of every arm and [1, N, C] of the floor.
        beats: Of DS2.
        say: Told about progress.
    """
    lacking = [m for m in MEASURE_NAMES if not any(n.startswith(m) for n in plan.metrics)]
    single = runs(plan, log_probs, beats)
    found = {}
    for name in (*plan.metrics, *(f"{measure}_sv" for measure in lacking)):
        say(f"resampling patients and seeds: {name}")
        found[name] = _compare(plan, beats, single, name, contrasts=plan.contrasts)
    return found


def compare_ensembles(
    plan: SealedPlan,
    log_probs: Mapping[str, NDArray[np.float32]],
    beats: Beats,
    say: Callable[[str], None],
) -> Comparison:
    """Return what the seed ensembles' comparison finds; arguments as in `comparisons`."""
    say("resampling patients: seed ensembles")
    together = {name: ensemble_of(values) for name, values in log_probs.items()}
    return _compare(plan, beats, runs(plan, together, beats), plan.metrics[0])


def _compare(
    plan: SealedPlan,
    beats: Beats,
    arms: Sequence[ArmRuns],
    metric: str,
    contrasts: Sequence[tuple[str, str]] = (),
) -> Comparison:
    return compare(
        beats,
        arms,
        contrasts=contrasts,
        # The same measures and classes have names of their own on DS1.
        objective=f"val_{metric}",
        resamples=plan.resamples,
        permutations=plan.permutations,
        seed=plan.study_seed,
        choosing=False,
    )


def runs(
    plan: SealedPlan, log_probs: Mapping[str, NDArray[np.floating]], beats: Beats
) -> list[ArmRuns]:
    """Return the arms in the form that comparisons take; the floor's one model stands for all."""
    seeds = np.arange(max(len(values) for values in log_probs.values()))
    shared: dict[str, Any] = {
        "draw": np.zeros_like(seeds),
        "seed": seeds,
        "fingerprints": beats.fingerprints,
    }
    found = [
        ArmRuns(
            name=arm.name,
            log_probs=log_probs[arm.name].astype(np.float32),
            input=arm.config.signal.input,
            segmentation=arm.config.signal.segmentation,
            fusion=arm.config.model.fusion,
            rr=arm.config.signal.rr,
            **shared,
        )
        for arm in plan.arms
    ]
    floor = ArmRuns(
        name=FLOOR,
        log_probs=np.repeat(log_probs[FLOOR], len(seeds), axis=0).astype(np.float32),
        input=FLOOR,
        segmentation=floors.FLOOR_CUT[0],
        fusion=FLOOR,
        **shared,
    )
    return [*found, floor]


def _beats(beat_set: BeatSet, records: Records) -> Beats:
    names = beat_set.record_names
    return Beats(
        label=beat_set.label,
        record=beat_set.record,
        record_names=names,
        patient_of_record=tuple(records.ds2_patients[name] for name in names),
        fold_of_record=tuple(0 for _ in names),
    )


def _keep(
    plan: SealedPlan,
    prepared: Prepared,
    folder: EvaluationFolder,
    opening: Opening,
    *,
    beats: Beats,
    log_probs: Mapping[str, NDArray[np.float32]],
    findings: Findings,
) -> None:
    """Write the result; where `result.json` stands, everything else does too."""
    place = folder.opening(opening).name
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"log_probs_{name}": values for name, values in log_probs.items()}
    np.savez_compressed(
        buffer,
        label=beats.label,
        record=beats.record,
        record_names=np.asarray(beats.record_names),
        seeds=np.asarray(seeds_of(plan)),
        **arrays,
    )
    configs = {arm.name: rules.active_parameters(arm.config) for arm in plan.arms}
    result = {
        "opening": dict(opening.content),
        "plan": plan.text(),
        "engine": str(prepared.job.engine),
        "provenance": provenance(prepared.job.device),
        "trained_by": list(prepared.trained_by),
        "beats": {
            "total": len(beats.label),
            "by_record": dict(zip(beats.record_names, beats.counts, strict=True)),
        },
        "exclusions": [asdict(exclusion) for exclusion in findings.left_out],
        "arms": {
            arm.name: {
                "configuration": configs.get(arm.name, dict(floors.SETTINGS)),
                "thresholds": arm.thresholds.as_json(),
                "seeds": _half(arm.seeds),
                "ensemble": _half(arm.ensemble),
            }
            for arm in findings.arms
        },
        "comparisons": {
            name: asdict(comparison) for name, comparison in findings.comparisons.items()
        },
        "ensembles": asdict(findings.ensembles),
    }
    rows = [row for arm in findings.arms for row in arm.per_record]
    folder.write(f"{place}/{PREDICTIONS}", buffer.getvalue())
    folder.write(f"{place}/{PER_RECORD}", _csv(rows))
    folder.write(f"{place}/{TABLES}", result_text(findings) + "\n")
    folder.write_json(f"{place}/{RESULT}", result)


def _half(half: Half) -> dict[str, Any]:
    return {
        "values": half.values,
        "without": half.without,
        "ec57": half.ec57,
        "confusion": half.confusion,
    }


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
