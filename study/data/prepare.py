"""Turns a source into the arrays of a study: reads, filters, cuts, computes RR, caches on disk.

Shapes: N beats of all records, T samples (128), P permutations, M sampled beats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from study.beats import LabelledBeats
from study.config import N_SAMPLES, SAMPLING_RATE_HZ, Cut, cut_text, digest_of
from study.data.beat_set import BeatSet, Reference, Reliance, load_cached, store_cached
from study.data.reference.means import TemplateMeans, record_to_draw, template_means
from study.data.reference.templates import (
    SHAPE_CUT,
    Windows,
    deviations,
    distances,
    make_templates,
)
from study.data.rr import FEATURES, reliance_sample, rr_features
from study.data.source import Source
from study.data.wfdb_record import Record
from study.data.windows import (
    SEGMENTATIONS,
    UsableBeats,
    band_pass,
    cut_windows,
    usable_beats,
)
from study.errors import DataError, read_all
from study.keys import CLASSES

PREPARATION = "log ratios, templates"
"""Version of the preparation, part of every fingerprint and cache key.

Give it another text whenever the arrays of a beat set change: then caches are made anew, and no
study goes on with beats that it did not begin with. tests/data/test_prepare.py pins the arrays.
"""

_NUMERICS = ("numpy", "scipy", "wfdb")


def prepare(
    source: Source,
    segmentation: str,
    resampling_method: str,
    *,
    cache_dir: Path,
    study_seed: int = 0,
) -> BeatSet:
    """Return the beats of a source under one cut without template (see `prepare_all`)."""
    cut = (segmentation, resampling_method)
    return prepare_all(source, [cut], cache_dir=cache_dir, study_seed=study_seed)[cut]


def prepare_all(
    source: Source,
    cuts: Iterable[Cut],
    *,
    cache_dir: Path,
    study_seed: int = 0,
) -> dict[Cut, BeatSet]:
    """Return the beats of a source under several cuts, from the cache if possible.

    Records are read and filtered once for all cuts missing in the cache. The study's seed draws
    the reliance sample and its permutations.

    Raises:
        DataError: If a record cannot be used, or no beat is left.
    """
    cuts = list(dict.fromkeys(cuts))
    rules = {origin.database: asdict(origin.rules) for origin in source.origins.values()}
    identity = {
        "code": PREPARATION,
        "dataset": source.dataset,
        "source": source.kind,
        # After an edit of a file, beats prepared before are not used.
        "files": dict(source.checksums),
        "rules": rules if len(rules) > 1 else next(iter(rules.values())),
        "samples": [N_SAMPLES, SAMPLING_RATE_HZ],
        "classes": CLASSES,
        "study_seed": study_seed,
    }
    sets: dict[Cut, BeatSet] = {}
    fingerprints = {cut: digest_of({**identity, "cut": cut}) for cut in cuts}
    for cut, fingerprint in fingerprints.items():
        cached = load_cached(*_cache_file(cache_dir, source.dataset, cut, fingerprint))
        if cached is not None:
            sets[cut] = cached
    missing = [cut for cut in cuts if cut not in sets]
    if missing:
        parts = read_all(
            source.records, lambda name: _part(source.read(name)), folder=source.where
        )
        beats = _joined(list(parts.values()), source.where)
        for cut in missing:
            fingerprint = fingerprints[cut]
            cut_beats = beats.cut(cut, source.dataset, source.kind, study_seed, fingerprint)
            sets[cut] = replace(cut_beats, databases=source.databases)
            path, key = _cache_file(cache_dir, source.dataset, cut, fingerprint)
            store_cached(path, key, sets[cut])
    return {cut: sets[cut] for cut in cuts}


def prepare_record(record: Record, cut: Cut) -> BeatSet:
    """Return the beats of one record under a cut, without a cache."""
    beats = _joined([_part(record)], f"record {record.name}")
    # No model is trained or measured on these beats: seed and fingerprint do not matter.
    return beats.cut(cut, record.name, "records", study_seed=0, fingerprint="")


def draw_templates(source: Source, beats: Mapping[Cut, BeatSet]) -> list[TemplateMeans]:
    """Return means of beats beside their templates, for each cut that has a template.

    One record is read for them: the one whose rarer class of S and V has most beats.
    """
    drawn = {cut: of_cut for cut, of_cut in beats.items() if of_cut.reference is not None}
    if not drawn:
        return []
    of_any = next(iter(drawn.values()))
    name = of_any.record_names[record_to_draw(of_any)]
    own = _joined([_part(source.read(name))], source.where)
    return [
        template_means(cut_text(cut), of_cut, name, *own.templates(cut, cut[-1]), own.label)
        for cut, of_cut in drawn.items()
    ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Peaks:
    """Positions of beats, in record and time order."""

    record: NDArray[np.int64]  # [F] index of the record
    r_peak: NDArray[np.int64]  # [F] sample of the R peak in its record
    previous: NDArray[np.int64]  # [F] sample of the R peak before

    def at(self, index: NDArray[np.int64]) -> _Peaks:
        """Return some of them."""
        return _Peaks(
            record=self.record[index], r_peak=self.r_peak[index], previous=self.previous[index]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _UncutBeats(LabelledBeats):
    """The data that all cuts of one source share; records lie end to end in `signal`."""

    signal: NDArray[np.float64]  # filtered signals of all records, [samples of all records]
    offset: NDArray[np.int64]  # [records] where each record begins in `signal`
    fitting: _Peaks  # the F beats that make templates
    among_fitting: NDArray[np.int64]  # [N] position of each beat among these
    rr: Mapping[str, NDArray[np.float32]]  # RR feature sets, each [N, R]
    dropped: Mapping[str, Mapping[str, int]]  # beats left out, by record and reason

    @property
    def peaks(self) -> _Peaks:
        """Positions of the N beats."""
        return self.fitting.at(self.among_fitting)

    def cut(self, cut: Cut, dataset: str, kind: str, study_seed: int, fingerprint: str) -> BeatSet:
        """Cut the windows of one segmentation and assemble its beat set."""
        segmentation, resampling, *template = cut
        reliance = self._reliance(cut, study_seed)
        return BeatSet(
            dataset=dataset,
            source=kind,
            segmentation=segmentation,
            resampling=resampling,
            record_names=self.record_names,
            record=self.record,
            r_peak_sample=self.peaks.r_peak,
            label=self.label,
            ecg=self._windows(cut, self.peaks),
            rr=self.rr,
            reliance=reliance,
            dropped=self.dropped,
            fingerprint=fingerprint,
            reference=self._reference(cut, template[0], reliance) if template else None,
        )

    def _reference(self, cut: Cut, template: str, reliance: Reliance) -> Reference:
        """Compare the beats with their templates, and the re-cut ones with the same."""
        windows, templates = self.templates(cut, template)
        of_shape_cut = (windows, templates)
        if cut[:2] != SHAPE_CUT:
            of_shape_cut = self.templates(SHAPE_CUT, template)
        recut = None
        if reliance.windows is not None:
            recut_windows = self._recut(cut, reliance.beats, reliance.donors, scaled=False)
            recut = deviations(recut_windows, templates[reliance.beats])
        return Reference(
            template=template,
            deviation=deviations(windows, templates),
            distances=distances(deviations(*of_shape_cut)),
            recut=recut,
        )

    def templates(self, cut: Cut, template: str) -> tuple[Windows, Windows]:
        """Return the windows of all beats, mean-free and unscaled, and their templates, [N, T]."""
        peaks, used = self.fitting, self.among_fitting
        windows = self._windows(cut, peaks, scaled=False)
        return windows[used], make_templates(template, windows, peaks.r_peak, peaks.record)[used]

    def _reliance(self, cut: Cut, study_seed: int) -> Reliance:
        beats, donors = reliance_sample(self.record, self.label, study_seed)
        depends_on_rr = SEGMENTATIONS[cut[0]].from_previous
        windows = self._recut(cut, beats, donors) if depends_on_rr else None
        return Reliance(beats=beats, donors=donors, windows=windows)

    def _recut(
        self,
        cut: Cut,
        beats: NDArray[np.int64],
        donors: NDArray[np.int64],
        *,
        scaled: bool = True,
    ) -> Windows:
        """Cut sampled beats [M] as if each had its donors' RR, [P, M, T]; donors are [P, M]."""
        own = self.peaks.at(np.broadcast_to(beats, donors.shape).ravel())
        others = self.peaks.at(donors.ravel())
        recut = replace(own, previous=own.r_peak - (others.r_peak - others.previous))
        return self._windows(cut, recut, scaled=scaled).reshape(*donors.shape, N_SAMPLES)

    def _windows(self, cut: Cut, peaks: _Peaks, *, scaled: bool = True) -> Windows:
        """Cut the windows of beats at these positions, [F, T]."""
        segmentation, resampling, *_ = cut
        start, stop = SEGMENTATIONS[segmentation].bounds(peaks.r_peak, peaks.previous)
        # A donor's RR may reach back before the record: the window then begins at sample 0.
        start, offset = np.maximum(start, 0), self.offset[peaks.record]
        return cut_windows(self.signal, offset + start, offset + stop, resampling, scaled=scaled)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Part:
    """The data of one record: its filtered signal, its usable beats, and their RR features."""

    name: str
    signal: NDArray[np.float64]
    beats: UsableBeats
    beat_samples: NDArray[np.int64]  # [K] of all beat annotations
    rr: Mapping[str, NDArray[np.float32]]


def _part(record: Record) -> _Part:
    beats = usable_beats(record)
    try:
        rr = rr_features(record.beat_samples, SAMPLING_RATE_HZ, beats.gap)
    except DataError as error:
        raise DataError(error.fault, f"record {record.name}") from error
    return _Part(
        name=record.name,
        signal=band_pass(record.signal_mv),
        beats=beats,
        beat_samples=record.beat_samples,
        rr={name: rows[beats.index] for name, rows in rr.items()},
    )


def _joined(parts: Sequence[_Part], where: Path | str) -> _UncutBeats:
    lists = [part.beats for part in parts]
    dropped = {part.name: dict(part.beats.dropped) for part in parts}
    sizes = [len(beats.index) for beats in lists]
    if not any(sizes):
        raise DataError(f"no beat can be used; left out, by record: {dropped}", where)
    lengths = [len(part.signal) for part in parts]
    return _UncutBeats(
        # One array for all records, so that one call cuts all windows.
        signal=np.concatenate([part.signal for part in parts]),
        record_names=tuple(part.name for part in parts),
        offset=np.cumsum([0, *lengths[:-1]], dtype=np.int64),
        record=np.repeat(np.arange(len(parts)), sizes),
        label=np.concatenate([beats.label for beats in lists]),
        fitting=_fitting(parts),
        among_fitting=np.flatnonzero(
            np.concatenate([np.isin(beats.fitting, beats.index) for beats in lists])
        ),
        rr={name: np.concatenate([part.rr[name] for part in parts]) for name in FEATURES},
        dropped=dropped,
    )


def _fitting(parts: Sequence[_Part]) -> _Peaks:
    at = [part.beats.fitting for part in parts]
    samples = [part.beat_samples for part in parts]
    return _Peaks(
        record=np.repeat(np.arange(len(parts)), [len(index) for index in at]),
        r_peak=np.concatenate([k[index] for k, index in zip(samples, at, strict=True)]),
        # A record's first beat fits no window, so that each of these has a beat before it.
        previous=np.concatenate([k[index - 1] for k, index in zip(samples, at, strict=True)]),
    )


def _cache_file(cache_dir: Path, dataset: str, cut: Cut, fingerprint: str) -> tuple[Path, str]:
    """Return the cache file of a beat set and its key.

    The key also holds the versions of numerical packages, as last bits may differ between them,
    and the names of the RR sets that the file has.
    """
    key = digest_of([fingerprint, *FEATURES, *(f"{name} {version(name)}" for name in _NUMERICS)])
    return cache_dir / dataset / f"{'-'.join(cut)}-{key}.beats", key
