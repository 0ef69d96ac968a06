"""The header (.hea) of a WFDB record: its leads and signal files, which must be complete.

What its fields mean is as in https://physionet.org/physiotools/wag/header-5.htm.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from study.errors import DataError, MissingDataError

WFDB_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError),
    *(ArithmeticError, AssertionError, MemoryError, RuntimeError),
)
"""Errors that `wfdb` raises on damaged files: it checks little before it parses."""

_BYTES_PER_SAMPLE = {
    **{"8": 1.0, "80": 1.0, "16": 2.0, "61": 2.0, "160": 2.0, "24": 3.0, "32": 4.0},
    **{"212": 1.5, "310": 4 / 3, "311": 4 / 3},
}
_MOST_SAMPLES = 2**31
"""Largest number of samples of a signal: 69 days at 360 Hz."""

_FILE_NAME = re.compile(r"[-\w]+(\.\w+)*")
_MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "V": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """The content of a header; the tuples have one entry per signal, [leads]."""

    path: Path  # the header file
    frame_rate_hz: float  # frames per second
    n_frames: int | None  # length; None where it states none
    leads: tuple[str, ...]  # names
    samples_per_frame: tuple[int, ...]
    layout: str = ""  # name of the header that only lists the leads of the segments, if any
    # The parts of a record that joins several, in order. Its leads are those of any part, and it
    # has no signals of its own: what follows is empty.
    segments: tuple[Segment, ...] = ()
    files: tuple[str, ...] = ()  # signal files, relative to the header's folder
    skew: tuple[int, ...] = ()  # frames that precede a signal's sample 0
    # 16-bit sum of all samples of a signal, as stated; None where it was not computed
    checksums: tuple[int | None, ...] = ()
    units: tuple[str, ...] = ()  # physical units

    @property
    def all_files(self) -> list[str]:
        """The header and signal files of the record and its segments, each once."""
        parts = [self, *(part.header for part in self.segments if part.header)]
        return list(
            dict.fromkeys(file for part in parts for file in (part.path.name, *part.files))
        )

    def signal_path(self, channel: int) -> Path:
        """Path of the file that holds a channel."""
        return self.path.parent / self.files[channel]

    def rate_hz(self, channel: int) -> float:
        """Samples per second of a channel."""
        return self.frame_rate_hz * self.samples_per_frame[channel]

    def millivolts_per_unit(self, channel: int) -> float:
        """Return the factor that converts a channel to millivolts, if its unit is a voltage."""
        unit = self.units[channel]
        if unit not in _MILLIVOLTS:
            known = ", ".join(_MILLIVOLTS)
            raise DataError(
                f"lead {self.leads[channel]} is in '{unit}'; known: {known}", self.path
            )
        return _MILLIVOLTS[unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a record that joins several."""

    header: Header | None  # None where nothing was recorded
    first_frame: int  # where it begins in the record
    n_frames: int


def require_folder(folder: Path) -> None:
    """Check that a folder can be read and holds WFDB records (`DataError` if not)."""
    if not folder.exists():
        raise MissingDataError("no such folder; give the folder of the WFDB records", folder)
    try:
        header = next(folder.rglob("*.hea"), None) if any(folder.iterdir()) else None
    except OSError as error:
        raise DataError(f"must be a folder that can be read: {error.strerror}", folder) from error
    if header is None:
        raise MissingDataError("no WFDB records in it: not one header (*.hea)", folder)


def require_files(folder: Path, name: str, suffixes: Sequence[str]) -> None:
    """Check that a record's files exist (`MissingDataError`) and can be read (`DataError`)."""
    paths = {suffix: folder / f"{name}{suffix}" for suffix in suffixes}
    missing = [suffix for suffix, path in paths.items() if not path.exists()]
    if missing:
        raise MissingDataError(f"no {' or '.join(missing)} file", folder / name)
    for path in paths.values():
        if not path.is_file() or not os.access(path, os.R_OK):
            raise DataError("must be a file that can be read", path)


def read_header(folder: Path, name: str) -> Header:
    """Read a record's header, and check the size of its signal files.

    Raises:
        MissingDataError: If the header or a signal file is not there.
        DataError: If it cannot be read, a signal file is truncated, or its segments do not fit
            what it says of them.
    """
    path = folder / f"{name}.hea"
    raw = _parsed(path)
    return _joined(path, raw) if _has_segments(raw) else _single(path, raw)


def _has_segments(raw: Any) -> bool:
    import wfdb

    return isinstance(raw, wfdb.MultiRecord)


def _parsed(path: Path) -> Any:
    """Return a header as `wfdb` reads it."""
    import wfdb

    require_files(path.parent, path.stem, (".hea",))
    try:
        with readable(path) as record:
            return wfdb.rdheader(record)
    except WFDB_ERRORS as error:
        raise DataError(
            "cannot be read as a WFDB header: a line with the record's name, its number of "
            "signals and their rate, then a line a signal or segment",
            path,
        ) from error


def _joined(path: Path, raw: Any) -> Header:
    """Return the header of a record that joins segments, and check what it says of them.

    Its layout may be fixed (all segments have the same leads) or variable: a first segment of
    length 0, which only lists leads, and others with some of these. A segment `~` is a gap.
    """
    names, lengths = tuple(raw.seg_name), tuple(raw.seg_len)
    n_frames = sum(lengths)
    if len(names) != raw.n_seg or n_frames != (raw.sig_len or n_frames):
        raise DataError(
            f"its first line promises {raw.n_seg} segments of {raw.sig_len or n_frames} samples "
            f"together, got {len(names)} of {n_frames}",
            path,
        )
    if n_frames > _MOST_SAMPLES:
        raise DataError(f"may not join more than {_MOST_SAMPLES} samples, got {n_frames}", path)
    segments, first = list[Segment](), 0
    for name, length in zip(names, lengths, strict=True):
        if length:
            part = None if name == "~" else _segment(path, raw.fs, name, length)
            segments.append(Segment(header=part, first_frame=first, n_frames=length))
            first += length
    per_frame = dict[str, int]()
    for header in (segment.header for segment in segments if segment.header):
        for lead, samples in zip(header.leads, header.samples_per_frame, strict=True):
            per_frame.setdefault(lead, samples)
    return Header(
        path=path,
        frame_rate_hz=float(raw.fs),
        n_frames=n_frames,
        leads=tuple(per_frame),
        samples_per_frame=tuple(per_frame.values()),
        segments=tuple(segments),
        layout=next((name for name, length in zip(names, lengths, strict=True) if not length), ""),
    )


def _segment(path: Path, frame_rate_hz: float, name: str, n_frames: int) -> Header:
    """Return the header of a segment, which must fit what the record at `path` says of it."""
    own = path.with_name(f"{name}.hea")
    if not own.exists():
        raise MissingDataError(f"its segment {name} has no .hea file", path)
    raw = _parsed(own)
    if _has_segments(raw):
        raise DataError(f"its segment {name} may not join segments itself", path)
    if raw.fs != frame_rate_hz or raw.sig_len not in (None, n_frames):
        raise DataError(
            f"its segment {name} must have {n_frames} samples at {frame_rate_hz:g} Hz, its own "
            f"header states {raw.sig_len} at {raw.fs:g} Hz",
            path,
        )
    return _single(own, raw)


def _single(path: Path, raw: Any) -> Header:
    """Return the header of a record with signals of its own; check the size of their files."""
    _check_promises(path, raw)
    header = Header(
        path=path,
        frame_rate_hz=float(raw.fs),
        n_frames=raw.sig_len,
        leads=tuple(lead or "?" for lead in raw.sig_name or ()),
        files=tuple(raw.file_name or ()),
        samples_per_frame=tuple(raw.samps_per_frame or ()),
        skew=tuple(frames or 0 for frames in raw.skew or ()),
        # 0 is a placeholder, and without a length nobody can have summed up all samples.
        checksums=tuple(
            None if not value or raw.sig_len is None else value % 65536
            for value in raw.checksum or ()
        ),
        units=tuple(raw.units or ()),
    )
    _check_sizes(header, raw)
    return header


@contextmanager
def readable(header: Path) -> Iterator[str]:
    """Yield a record as `wfdb` can read it: the record, or a copy with a simpler record line.

    `wfdb` fails at all but one form of time and date, which are not needed here. It takes a length
    of 0 for an empty signal, though 0 means that the length is not stated.
    """
    lines = header.read_bytes().splitlines()
    is_content = [bool(line.strip()) and not line.lstrip().startswith(b"#") for line in lines]
    number = is_content.index(True) if any(is_content) else 0
    fields = lines[number].split() if lines else []
    needed = fields[:4] if b"".join(fields[3:4]).strip(b"0") else fields[:3]
    if needed == fields:
        yield str(header.with_suffix(""))
        return
    with TemporaryDirectory(prefix="wfdb-") as folder:
        copy = Path(folder, header.name)
        copy.write_bytes(b"\n".join([*lines[:number], b" ".join(needed), *lines[number + 1 :]]))
        for line in lines[number + 1 :]:
            file = b"".join(line.split()[:1]).decode("latin-1")
            if _FILE_NAME.fullmatch(file):
                with suppress(FileExistsError):
                    Path(folder, file).symlink_to((header.parent / file).resolve())
        yield str(copy.with_suffix(""))


def _check_promises(path: Path, raw: Any) -> None:
    """Refuse file names in other folders, and sizes beyond any memory: `wfdb` checks neither."""
    for file in raw.file_name or ():
        # A header may come from anywhere; symbolic links are the owner's choice.
        if not _FILE_NAME.fullmatch(file or ""):
            raise DataError(
                "a signal file must be named without a folder: letters, digits, '.', '-' and "
                f"'_'; got {file!r}",
                path,
            )
    numbers = (raw.sig_len, *(raw.samps_per_frame or ()), *(raw.skew or ()))
    largest = max((*(raw.byte_offset or ()), *numbers), key=lambda n: n or 0, default=0)
    if (largest or 0) > _MOST_SAMPLES:
        raise DataError(f"no length, frame, skew or offset may be above {_MOST_SAMPLES}", path)


def _check_sizes(header: Header, raw: Any) -> None:
    for file in dict.fromkeys(header.files):
        path = header.path.parent / file
        if not path.is_file():
            raise MissingDataError("missing, though its header names it", path)
        channels = [i for i, other in enumerate(header.files) if other == file]
        per_sample = _BYTES_PER_SAMPLE.get(raw.fmt[channels[0]])
        # Compressed formats and headers without a length state no size.
        if per_sample is None or raw.sig_len is None:
            continue
        samples = raw.sig_len * sum(raw.samps_per_frame[i] for i in channels)
        promised = int(samples * per_sample) + (raw.byte_offset[channels[0]] or 0)
        if (got := path.stat().st_size) < promised:
            raise DataError(
                f"truncated: its header promises {raw.sig_len} samples = {promised} bytes, got "
                f"{got}; fetch the file again",
                path,
            )
