"""A sealed test from the prepared models to the stored result: log, open, predict, score, keep.

The opening is on disk before DS2 is read. What fails after that leaves an opening without a
result: the same plan, code and models continue it, and it counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import study as package
from study.sealed.folder import EvaluationFolder
from study.sealed.kept import keep, keep_predictions
from study.sealed.plan import SealedPlan
from study.sealed.predicted import beats_of, findings_of, predictions, trained_line
from study.sealed.preparation import Prepared, cuts_of
from study.sealed.records import Records, read_ds2
from study.sealed.scoring import exclusions
from study.tracking.openings import Opening, OpeningsLog


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
    beats = beats_of(sets, records.ds2_patients)
    log_probs = predictions(plan, prepared, sets, say)
    place = folder.opening(opening).name
    keep_predictions(plan, folder, place, beats=beats, log_probs=log_probs)
    findings = findings_of(
        plan,
        prepared,
        log_probs,
        beats,
        exclusions(beats, records.source.patients.values()),
        records="DS2",
        how=_how(plan, prepared, opening),
        say=say,
    )
    keep(
        plan,
        prepared,
        folder,
        place,
        about={"opening": dict(opening.content)},
        beats=beats,
        findings=findings,
    )


def _how(plan: SealedPlan, prepared: Prepared, opening: Opening) -> str:
    return (
        f"Sealed test of plan {plan.title}, opening {opening.number}, "
        f"{opening.content['time']}, commit {opening.content['commit']}.\n"
        f"{trained_line(plan, prepared)}"
    )
