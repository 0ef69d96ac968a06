"""Records of any folder that models are tested on.

The folder holds another database, or one's own records (`find_external`). Every record with beat
annotations is taken, at any sampling rate from 100 Hz to 10 kHz. MIT-BIH's own records, recognised
by their content, are refused: models train on DS1, and DS2 is sealed. Excerpts of them in other
databases (records sel1xx and sel2xx of the QT database, the noise stress test) cannot be
recognised; leave them out by a split file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from study.data.annotations import Doubled, annotation_file
from study.data.catalogue import ANNOTATIONS, DS1, EXTERNAL_LEADS, LEADS
from study.data.fetch import KnownRecordError, published_among, record_checksums
from study.data.source import Origin, Source
from study.data.split_file import RECORD_NAME, Split, load_split
from study.data.synthetic import MANIFEST
from study.data.wfdb_header import Header, read_header, require_folder
from study.data.wfdb_record import ReadingRules, annotations_of, read_lead, read_record
from study.data.windows import SHORTEST_RR_S
from study.errors import DataError, MissingDataError, NoBeatsError, together
from study.wording import listing


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class External:
    """The records of a folder that models can be tested on."""

    source: Source  # the records, as input of `study.data.prepare`
    leads: Mapping[str, str]  # the lead read of each record
    rates_hz: Mapping[str, float]  # the sampling rate of each record's files
    # Beats annotated more than once, of each record that has some
    doubled: Mapping[str, tuple[Doubled, ...]]
    without_beats: tuple[str, ...]  # records left out, as no beat of theirs has a class
    unusable: Mapping[str, str]  # records left out for a fault, and the fault


def external_rules(leads: Sequence[str] = ()) -> ReadingRules:
    """Return the requirements on a record used only for testing."""
    return ReadingRules(
        leads=tuple(leads) or EXTERNAL_LEADS, sampling_rate_hz=None, shortest_rr_s=SHORTEST_RR_S
    )


def find_external(
    folder: Path,
    *,
    leads: Sequence[str] = (),
    split_file: Path | None = None,
    strict: bool = False,
) -> External:
    """Find the records of a folder and its subfolders, and read each.

    Without a split file these are all that have annotations and can be used, each a patient of its
    own. The leads are accepted, best first; `EXTERNAL_LEADS` if neither they nor the split file
    name one.

    Raises:
        ConfigError: If the split file breaks a rule.
        DataError: If the folder has no records that can be used, or one of them is of MIT-BIH's
            DS1 or DS2; with `strict` or a split file, if any cannot be used. All faults together.
    """
    require_folder(folder)
    split = load_split(split_file) if split_file is not None else None
    rules = external_rules(leads or (split.leads if split else ()))
    by_option = bool(leads) or split is None
    names = split.development if split else _record_names(folder)
    examined: dict[str, _Examined | None] = {}
    errors: dict[str, DataError] = {}
    for name in names:
        try:
            # A folder may have records without beats; those of a split file must have some.
            examined[name] = _examine(
                folder, name, rules, must_have_beats=bool(split), by_option=by_option
            )
        except DataError as error:
            errors[name] = error
    for record in list(examined.values()):
        # A part of a joined record is no record of its own, unless a split file names it.
        for part in record.parts if record and not split else ():
            examined.pop(part, None)
            errors.pop(part, None)
    records = {name: record for name, record in examined.items() if record is not None}
    known = any(isinstance(error, KnownRecordError) for error in errors.values())
    if errors and (strict or split or known or not records):
        raise together(list(errors.values()), folder)
    if not records:
        raise MissingDataError(
            f"--records {folder}: none of {len(examined)} records has beats with classes "
            f"({listing(ANNOTATIONS)})"
        )
    # A manifest marks synthetic records anywhere, so that their scores never look real.
    synthetic = (folder / MANIFEST).exists()
    title = split.name if split else _slug(folder)
    source = Source(
        kind="synthetic" if synthetic else "records",
        dataset=title,
        origins=dict.fromkeys(sorted(records), Origin(database=title, folder=folder, rules=rules)),
        patients={name: split.patients[name] if split else name for name in records},
        checksums={
            file: digest
            for record in records.values()
            for file, digest in record.checksums.items()
        },
        verified=False,
        description=f"{'SYNTHETIC' if synthetic else 'external'} records '{title}' in {folder}",
    )
    return External(
        source=source,
        leads={name: record.lead for name, record in records.items()},
        rates_hz={name: record.rate_hz for name, record in records.items()},
        doubled={name: record.doubled for name, record in records.items() if record.doubled},
        without_beats=tuple(name for name, record in examined.items() if record is None),
        unusable={name: _fault_of(name, error) for name, error in errors.items()},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """What a split file could say of a folder's records."""

    split: Split  # those that a study can use, each a patient
    left_out: Mapping[str, str]  # those that it cannot use, and why


def propose_split(folder: Path) -> Proposed:
    """Find the records of a folder and its subfolders that a study can use, and read each.

    Their lead is the best that all have; else the best of MIT-BIH's, where each has one of these;
    else the one that most have.

    Raises:
        DataError: If none can be used; all faults together.
    """
    require_folder(folder)
    headers: dict[str, Header] = {}
    errors: dict[str, DataError] = {}
    for name in _record_names(folder):
        try:
            headers[name] = read_header(folder, name)
        except DataError as error:
            errors[name] = error
    for name, header in list(headers.items()):
        for part in _parts(name, header):
            headers.pop(part, None)
            errors.pop(part, None)
    split = Split(name=_slug(folder), leads=_shared_lead(list(headers.values())))
    for name in headers:
        try:
            if not RECORD_NAME.fullmatch(name):
                raise DataError("its name has more than letters, digits, - and _", folder / name)
            record_checksums(folder, name)
            read_record(folder, name, rules=split.rules)
        except DataError as error:
            errors[name] = error
    usable = tuple(name for name in headers if name not in errors)
    if not usable:
        raise together(list(errors.values()), folder)
    return Proposed(
        split=replace(split, development=usable, patients={name: name for name in usable}),
        left_out={name: _fault_of(name, error) for name, error in sorted(errors.items())},
    )


def _shared_lead(headers: Sequence[Header]) -> tuple[str, ...]:
    """Return the lead to name in a split file; none where its default serves as well."""
    leads = [dict.fromkeys(lead.casefold() for lead in header.leads) for header in headers]
    counts = Counter(lead for own in leads for lead in own)
    rank = {lead.casefold(): -place for place, lead in enumerate(EXTERNAL_LEADS)}
    # Of leads that equally many records have, the best known one; else the first.
    best = max(counts, key=lambda lead: (counts[lead], rank.get(lead, -len(rank))))
    default = all(any(lead.casefold() in own for lead in LEADS) for own in leads)
    if default and (counts[best] < len(headers) or best == LEADS[0].casefold()):
        return ()
    return (next(lead for header in headers for lead in header.leads if lead.casefold() == best),)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Examined:
    lead: str
    rate_hz: float
    doubled: tuple[Doubled, ...]
    checksums: Mapping[str, str]
    parts: tuple[str, ...]  # headers of what it joins and of its layout, by name


def _fault_of(name: str, error: DataError) -> str:
    """Return a record's fault, and the file that has it where its name is another."""
    file = Path(error.where)
    return error.fault if file.stem == Path(name).name else f"{file.name}: {error.fault}"


def _record_names(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.hea")
    )


def _examine(
    folder: Path, name: str, rules: ReadingRules, *, must_have_beats: bool, by_option: bool
) -> _Examined | None:
    """Examine one record; None if it has no beats and does not need any."""
    if not must_have_beats and not annotation_file(folder, name).exists():
        return None
    checksums = record_checksums(folder, name)
    if known := published_among(checksums, DS1):
        file, published = known
        named = "" if Path(file).name == published else f"{published} "
        raise KnownRecordError(
            f"is {named}of MIT-BIH's DS1, which models are trained on: it cannot test them",
            folder / file,
        )
    lead = read_lead(folder, name, rules=rules, by_option=by_option)
    try:
        annotations = annotations_of(lead, folder, name, rules=rules)
    except NoBeatsError:
        if must_have_beats:
            raise
        return None
    return _Examined(
        lead=lead.name,
        rate_hz=lead.sampling_rate_hz,
        doubled=annotations.doubled,
        checksums=checksums,
        parts=_parts(name, read_header(folder, name)),
    )


def _parts(name: str, header: Header) -> tuple[str, ...]:
    """Return the records that a record joins, and its layout, as a folder names them."""
    parts = [header.layout, *(part.header.path.stem for part in header.segments if part.header)]
    return tuple((Path(name).parent / part).as_posix() for part in parts if part)


def _slug(folder: Path) -> str:
    """Name a data set after its folder; MIT-BIH's names are reserved."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("-") or "records"
    return f"{name}-external" if name in ("DS1", "DS2") else name
