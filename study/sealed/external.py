"""A plan's models on other records than MIT-BIH's: predicted, scored and kept beside its result.

Nothing of DS2 is read, and none of its records can be in the folder (`study.data.source`). The
models and the thresholds are those that were fixed on DS1.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from study.config import digest_of
from study.data.beat_set import BeatSet
from study.data.prepare import Cut, prepare_all
from study.data.presence import ClassPresence, classes_present, describe
from study.data.source import External
from study.errors import DataError, UsageError
from study.keys import CLASSES, MIN_CLASS_BEATS
from study.sealed.evaluation import code_digest
from study.sealed.folder import EXTERNAL, RESULT, EvaluationFolder
from study.sealed.kept import keep, keep_predictions
from study.sealed.plan import SealedPlan
from study.sealed.predicted import beats_of, findings_of, predictions, trained_line
from study.sealed.preparation import Prepared, cuts_of
from study.sealed.scoring import exclusions

_WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExternalSet:
    """Records to test on, prepared.

    Args:
        external: The records, as they were found.
        sets: Their beats, by cut.
        presence: How far each class can be scored.
    """

    external: External
    sets: dict[Cut, BeatSet]
    presence: tuple[ClassPresence, ...]

    @property
    def name(self) -> str:
        """Name of the records."""
        return self.external.source.dataset

    @property
    def macro(self) -> tuple[str, ...]:
        """Classes that the macro is the mean of."""
        return tuple(found.name for found in self.presence if not found.left_out)

    @property
    def digest(self) -> str:
        """Digest of the files and the leads read of them."""
        source = self.external.source
        return digest_of(
            {
                "files": dict(source.checksums),
                "leads": dict(self.external.leads),
                "patients": dict(source.patients),
            }
        )

    def text(self) -> str:
        """Say what a reader of scores must know of the records."""
        lines = describe(self.external, next(iter(self.sets.values()))).splitlines()
        macro = f"the mean of {', '.join(self.macro)}" if self.macro else "of no class"
        lines.append(f"macro: {macro}")
        others = sorted({lead for lead in self.external.leads.values() if lead != "MLII"})
        if others:
            lines.append(f"models of MIT-BIH have seen lead MLII alone, not {', '.join(others)}")
        return "\n".join(
            textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
            for line in lines
        )


def prepare_external(external: External, plan: SealedPlan, *, cache_dir: Path) -> ExternalSet:
    """Prepare the beats of other records under every cut of a plan.

    Args:
        external: The records.
        plan: The plan.
        cache_dir: Folder of prepared beats.

    Raises:
        DataError: If a record cannot be used, or no class but N has enough beats.
    """
    source = external.source
    sets = prepare_all(source, cuts_of(plan), cache_dir=cache_dir, study_seed=plan.study_seed)
    presence = classes_present(next(iter(sets.values())), source.patients)
    rare = [found for found in presence if found.name != "N"]
    if all(found.beats < MIN_CLASS_BEATS for found in rare):
        counts = ", ".join(f"{found.name} {found.beats}" for found in presence)
        raise DataError(
            f"--records {source.folder}: no class but N can be scored: one of "
            f"{', '.join(CLASSES[1:])} needs {MIN_CLASS_BEATS} beats, got {counts}; give records "
            "that have some"
        )
    return ExternalSet(external=external, sets=sets, presence=presence)


def check_place(found: ExternalSet, folder: EvaluationFolder) -> None:
    """Check that a result on other records of the same name is not overwritten.

    Raises:
        UsageError: If there is one.
    """
    stored = _stored(folder, found.name)
    if stored is not None and stored["records"] != found.digest:
        raise UsageError(
            f"--records {found.external.source.folder}: {folder.external(found.name)} has the "
            f"result of other records or leads under the name '{found.name}'; rename the folder, "
            "or give a --split with another name"
        )


def identity_of(found: ExternalSet, prepared: Prepared) -> str:
    """Return what decides a result: records, models and code."""
    return digest_of([found.digest, prepared.digest, code_digest()])


def has_result(folder: EvaluationFolder, name: str, identity: str) -> bool:
    """Say whether the result of these very records, models and code is there."""
    stored = _stored(folder, name)
    return stored is not None and stored["identity"] == identity


def evaluate_external(
    plan: SealedPlan,
    prepared: Prepared,
    found: ExternalSet,
    folder: EvaluationFolder,
    *,
    say: Callable[[str], None],
) -> None:
    """Predict other records with every model, score the predictions and keep everything.

    Args:
        plan: The plan.
        prepared: Its models and thresholds.
        found: The records.
        folder: Where the result goes.
        say: Told about progress.

    Raises:
        DivergedError: If a prediction is not finite.
    """
    external, source = found.external, found.external.source
    beats = beats_of(found.sets, source.patients, found.macro)
    log_probs = predictions(plan, prepared, found.sets, say)
    # A tracked result that is replaced is to be tracked again.
    folder.forget_tracked(folder.external(found.name))
    place = f"{EXTERNAL}/{found.name}"
    keep_predictions(plan, folder, place, beats=beats, log_probs=log_probs)
    how = (
        f"External test of plan {plan.title} on {found.name}, commit {prepared.job.commit}. DS2 "
        f"was not read.\n{trained_line(plan, prepared)}\n{found.text()}"
    )
    findings = findings_of(
        plan,
        prepared,
        log_probs,
        beats,
        exclusions(beats, ()),
        records=found.name,
        how=how,
        say=say,
    )
    about = {
        "name": found.name,
        "identity": identity_of(found, prepared),
        "records": found.digest,
        "source": source.kind,
        "folder": str(source.folder),
        "leads": external.leads,
        "sampling_rates_hz": external.rates_hz,
        "doubled": {name: [asdict(b) for b in some] for name, some in external.doubled.items()},
        "without_beats": external.without_beats,
        "dropped": next(iter(found.sets.values())).dropped,
        "macro": found.macro,
        "classes": [asdict(presence) for presence in found.presence],
    }
    keep(
        plan,
        prepared,
        folder,
        place,
        about={EXTERNAL: about},
        beats=beats,
        findings=findings,
    )


def _stored(folder: EvaluationFolder, name: str) -> dict[str, str] | None:
    try:
        stored = json.loads((folder.external(name) / RESULT).read_text())[EXTERNAL]
        return {key: str(stored[key]) for key in ("identity", "records")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
