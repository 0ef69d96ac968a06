"""Other records that the models of a sealed test are tested on, without an opening."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from study.config import Cut, digest_of
from study.data.beat_set import BeatSet
from study.data.external import External
from study.data.prepare import prepare_all
from study.errors import DataError
from study.keys import CLASSES, MIN_CLASS_BEATS
from study.sealed.remarks import ClassPresence, classes_present, describe

_WIDTH = 110


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExternalSet:
    """Records to test on, their beats by cut, and which classes can be scored."""

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
        return tuple(of_class.name for of_class in self.presence if not of_class.left_out)

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
        """Return remarks on the records for a reader of the scores."""
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


def prepare_external(
    external: External, cuts: Iterable[Cut], *, cache_dir: Path, study_seed: int
) -> ExternalSet:
    """Prepare the beats of other records under every cut.

    Raises:
        DataError: If a record cannot be used, or no class but N has enough beats.
    """
    source = external.source
    sets = prepare_all(source, cuts, cache_dir=cache_dir, study_seed=study_seed)
    presence = classes_present(next(iter(sets.values())), source.patients)
    beats = {of_class.name: of_class.beats for of_class in presence}
    if all(n < MIN_CLASS_BEATS for name, n in beats.items() if name != "N"):
        counts = ", ".join(f"{name} {n}" for name, n in beats.items())
        raise DataError(
            f"--records {source.where}: no class but N can be scored: one of "
            f"{', '.join(CLASSES[1:])} needs {MIN_CLASS_BEATS} beats, got {counts}; give records "
            "that have some"
        )
    return ExternalSet(external=external, sets=sets, presence=presence)
