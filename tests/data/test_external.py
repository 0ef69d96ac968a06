"""A folder of records that models are tested on: what is taken, refused, and reported."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import wfdb

from study.config import LATE_RR_WIDTH, PUBLISHED_RESAMPLING, SAMPLING_RATE_HZ, SignalSpec
from study.data.beat_set import BeatSet
from study.data.checksums import sha256_of
from study.data.external import find_external
from study.data.prepare import prepare, prepare_all
from study.data.presence import ClassPresence, classes_present, describe
from study.data.synthetic import write_records
from study.errors import DataError, MissingDataError
from tests.builders import bare_beats

if TYPE_CHECKING:
    from tests.data.conftest import WriteRecord

NAMES = ("p01", "p02", "p03", "p04", "p05")
RATES_HZ = (128, 257)
DURATION_S = 90.0


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The same five patients at three sampling rates, with leads that MIT-BIH does not have."""
    root = tmp_path_factory.mktemp("external")
    for rate_hz in (*RATES_HZ, SAMPLING_RATE_HZ):
        write_records(
            root / f"{rate_hz}hz",
            names=NAMES,
            duration_s=DURATION_S,
            sampling_rate_hz=rate_hz,
            leads=("II", "aVF"),
        )
    return {rate_hz: root / f"{rate_hz}hz" for rate_hz in (*RATES_HZ, SAMPLING_RATE_HZ)}


@pytest.fixture(scope="module")
def sets(
    folders: dict[int, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[tuple[str, str], BeatSet]]:
    """Every folder under every segmentation."""
    cache = tmp_path_factory.mktemp("cache")
    cuts = list(PUBLISHED_RESAMPLING.items())
    return {
        rate_hz: prepare_all(find_external(folder).source, cuts, cache_dir=cache)
        for rate_hz, folder in folders.items()
    }


def pairs(one: BeatSet, other: BeatSet, within: int) -> tuple[Any, ...]:
    """Return the indices of the same beats in two sets: same record, about the same sample."""
    near = np.abs(one.r_peak_sample[:, None] - other.r_peak_sample) <= within
    return np.nonzero(near & (one.record[:, None] == other.record))


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_r_peaks_are_within_one_sample_of_the_truth(
    rate_hz: int, sets: dict[int, dict[tuple[str, str], BeatSet]]
) -> None:
    """One sample of the record's own rate: half a sample lost when it was annotated, half here."""
    cut = ("daeac", "linear")
    truth, beats = sets[SAMPLING_RATE_HZ][cut], sets[rate_hz][cut]
    limit = 0.5 * SAMPLING_RATE_HZ / rate_hz + 0.5
    i, j = pairs(beats, truth, within=10)
    # All but a few beats at the ends of records, where a window may just leave the signal.
    assert len(i) > 0.99 * len(truth.label) > 300
    assert np.abs(beats.r_peak_sample[i] - truth.r_peak_sample[j]).max() <= limit
    np.testing.assert_array_equal(beats.label[i], truth.label[j])


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("cut", PUBLISHED_RESAMPLING.items())
def test_same_beats_have_the_same_features_as_at_360_hz(
    rate_hz: int, cut: tuple[str, str], sets: dict[int, dict[tuple[str, str], BeatSet]]
) -> None:
    """RR by one sample of either rate; windows as far as a shift of half a sample changes them."""
    truth, beats = sets[SAMPLING_RATE_HZ][cut], sets[rate_hz][cut]
    i, j = pairs(beats, truth, within=10)
    step_ms = 1000 / rate_hz + 1000 / SAMPLING_RATE_HZ
    for column in (0, 1, 2):  # pre_rr, post_rr, local_rr in milliseconds
        difference = beats.rr["seed7"][i, column] - truth.rr["seed7"][j, column]
        assert np.abs(difference).max() <= step_ms
    # The shortest interval of the synthetic patients is 280 ms (study.data.physiology).
    ratios = beats.rr["ratio2_so_far"][i] / truth.rr["ratio2_so_far"][j]
    assert np.abs(ratios - 1).max() <= step_ms / 280
    alike = (beats.ecg[i] * truth.ecg[j]).mean(axis=1)
    assert np.median(alike) > 0.99
    assert np.quantile(alike, 0.05) > 0.93


@pytest.mark.parametrize("input_", ["opt1", "opt2", "opt3", "ecg"])
@pytest.mark.parametrize("late_rr", LATE_RR_WIDTH)
@pytest.mark.parametrize("ratio_mean", ["so_far", "record"])
def test_any_configuration_finds_its_inputs(
    input_: str, late_rr: str, ratio_mean: str, sets: dict[int, dict[tuple[str, str], BeatSet]]
) -> None:
    signal = SignalSpec(input=input_, late_rr=late_rr, ratio_mean=ratio_mean)
    beats = sets[128][signal.segmentation, signal.resampling_method]
    early, late = beats.early_rr(signal), beats.late_rr(signal)
    assert (early is not None) == signal.option.early_rr
    assert late is None or late.shape == (len(beats.label), LATE_RR_WIDTH[late_rr])
    assert (late is not None) == signal.option.late_rr


def test_what_a_folder_gives(folders: dict[int, Path]) -> None:
    external = find_external(folders[257])
    source = external.source
    assert (source.dataset, source.kind, source.synthetic) == ("257hz", "synthetic", True)
    assert source.development == NAMES
    assert source.patients == {name: name for name in NAMES}
    assert external.leads == dict.fromkeys(NAMES, "II")
    assert external.rates_hz == dict.fromkeys(NAMES, 257.0)
    assert (external.doubled, external.without_beats) == ({}, ())


def test_lead_is_chosen_by_name_or_as_asked_for(tmp_path: Path, write_record: WriteRecord) -> None:
    write_record(tmp_path, "a", leads=("V5", "II"))
    write_record(tmp_path, "sub/b", leads=("V1", "MLII"))
    assert find_external(tmp_path).leads == {"a": "II", "sub/b": "MLII"}
    assert find_external(tmp_path, leads=["V5", "V1"]).leads == {"a": "V5", "sub/b": "V1"}


def test_all_faults_of_a_folder_are_told_together(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    write_record(tmp_path, "a", leads=("ECG1", "ECG2"))
    write_record(tmp_path, "b", rate_hz=50)
    write_record(tmp_path, "c")
    (tmp_path / "c.atr").write_bytes((tmp_path / "c.atr").read_bytes()[:-2])
    write_record(tmp_path, "d")
    with pytest.raises(DataError) as caught:
        find_external(tmp_path)
    assert str(caught.value) == (
        f"--records {tmp_path}: 3 faults\n"
        f"  - {tmp_path}/a.hea: must have a lead that is accepted, best first: MLII, II, V1, V2, "
        'V4, V5; got ECG1, ECG2; name another: --lead, or lead = "..." in a split\n'
        f"  - {tmp_path}/b.hea: sampling rate must lie in [100, 10000] Hz, got 50 Hz\n"
        f"  - {tmp_path}/c.atr: truncated: its end mark is missing; fetch the file again"
    )


def test_damaged_signals_are_told_together_when_beats_are_prepared(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    for name in ("a", "b", "c"):
        write_record(tmp_path / "set", name, duration_s=20)
    for name in ("a", "b"):
        content = bytearray((tmp_path / "set" / f"{name}.dat").read_bytes())
        content[800] ^= 1
        (tmp_path / "set" / f"{name}.dat").write_bytes(content)
    source = find_external(tmp_path / "set").source
    with pytest.raises(DataError) as caught:
        prepare(source, "beat", "linear", cache_dir=tmp_path / "cache")
    head, *faults = str(caught.value).splitlines()
    assert head == f"{tmp_path}/set: 2 faults"
    assert [f"{name}.dat" in fault for name, fault in zip("ab", faults, strict=True)] == [True] * 2


def test_records_without_beats_are_left_out_and_named(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    folder = tmp_path / "set"
    for name in ("a", "b", "c"):
        write_record(folder, name, duration_s=20)
    (folder / "b.atr").unlink()
    wfdb.wrann("c", "atr", np.array([18]), symbol=["+"], aux_note=["(AFIB"], write_dir=str(folder))
    external = find_external(folder)
    assert external.source.development == ("a",)
    assert external.without_beats == ("b", "c")
    beats = prepare(external.source, "beat", "linear", cache_dir=tmp_path / "cache")
    assert "no beat annotations, left out: b, c" in describe(external, beats).splitlines()
    (folder / "a.atr").unlink()
    with pytest.raises(MissingDataError) as caught:
        find_external(folder)
    assert str(caught.value) == (
        f"--records {folder}: none of 3 records has beat annotations (.atr)"
    )


def test_split_file_names_records_patients_and_lead(
    tmp_path: Path, write_record: WriteRecord
) -> None:
    for name in ("a", "b", "c"):
        write_record(tmp_path, name, leads=("III", "V1"))
    split = tmp_path / "split.toml"
    split.write_text(
        'name = "ward"\ndevelopment = ["a", "b"]\nlead = "III"\n[patients]\na = "x"\nb = "x"\n'
    )
    external = find_external(tmp_path, split_file=split)
    assert (external.source.dataset, external.source.development) == ("ward", ("a", "b"))
    assert external.source.patients == {"a": "x", "b": "x"}
    assert external.leads == {"a": "III", "b": "III"}
    assert find_external(tmp_path, leads=["V1"], split_file=split).leads["a"] == "V1"
    (tmp_path / "b.atr").unlink()
    with pytest.raises(DataError, match=r"record b: missing b\.atr$"):
        find_external(tmp_path, split_file=split)


@pytest.mark.parametrize(
    ("file", "rest"),
    [
        (
            "100.dat",
            "MIT-BIH's DS2, which is sealed: only `python -m study.evaluate` reads it, by a plan "
            "written before; give another",
        ),
        ("208.dat", "MIT-BIH's DS1, which models are trained on: it can test none"),
    ],
)
def test_records_of_mitbih_are_refused_under_any_name(
    tmp_path: Path,
    write_record: WriteRecord,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    rest: str,
) -> None:
    write_record(tmp_path, "mine")
    published = _published() | {file: sha256_of(tmp_path / "mine.dat")}
    monkeypatch.setattr("study.data.checksums.published_checksums", lambda: published)
    with pytest.raises(DataError) as caught:
        find_external(tmp_path)
    assert str(caught.value) == f"--records {tmp_path}: {tmp_path}/mine.dat: is {file} of {rest}"


def _published() -> dict[str, str]:
    from study.data.checksums import published_checksums

    return dict(published_checksums())


@pytest.fixture
def doubled(tmp_path: Path, write_record: WriteRecord) -> Iterator[Path]:
    """Two records at 257 Hz; in `a` two beats are annotated twice, once with another class."""
    folder = tmp_path / "doubled"
    samples = write_record(folder, "a", rate_hz=257, duration_s=30)
    write_record(folder, "b", rate_hz=257, duration_s=30)
    both = [(s, "N") for s in samples.tolist()]
    both += [(int(samples[10]) + 1, "L"), (int(samples[20]) + 3, "S")]
    both.sort()
    wfdb.wrann(
        "a",
        "atr",
        np.array([sample for sample, _ in both]),
        symbol=[symbol for _, symbol in both],
        write_dir=str(folder),
    )
    yield folder
    shutil.rmtree(folder)


def test_beats_annotated_twice_are_taken_once_and_reported(doubled: Path, tmp_path: Path) -> None:
    external = find_external(doubled)
    assert {name: len(beats) for name, beats in external.doubled.items()} == {"a": 2}
    beats = prepare(external.source, "beat", "linear", cache_dir=tmp_path / "cache")
    assert beats.dropped["a"] == {**beats.dropped["b"], "class Q": 1}
    # Nothing but the beat of no known class is lost, and no rhythm is changed.
    one, other = beats.rr["seed7"][beats.record == 0], beats.rr["seed7"][beats.record == 1]
    assert len(one) == len(other) - 1
    np.testing.assert_array_equal(np.unique(one[:, :3]), np.unique(other[:, :3]))
    at = external.doubled["a"][1].samples[0]
    assert describe(external, beats).splitlines()[3:5] == [
        "annotated more than once within 0.2 s, taken as one beat at the first mark: a (2)",
        "of these marked as different classes, left out as class Q: "
        f"a (1; N and S at sample {at})",
    ]


def test_description_of_a_folder(
    folders: dict[int, Path], sets: dict[int, dict[tuple[str, str], BeatSet]]
) -> None:
    beats = sets[128]["daeac", "linear"]
    lines = describe(find_external(folders[128]), beats).splitlines()
    assert lines[:2] == [
        f"SYNTHETIC records '128hz' in {folders[128]}: 5 records of 5 patients, "
        f"{len(beats.label)} beats",
        "leads: II (5); sampling rates in Hz: 128 (5)",
    ]
    assert lines[2].startswith("beats left out: ")
    assert "first or last beat 10" in lines[2]


def test_classes_that_hardly_any_patient_has_are_left_out_of_the_macro_and_why() -> None:
    beats = bare_beats(
        [(50, 0, 90, 1), (50, 0, 2, 2), (50, 0, 2, 3), (50, 0, 2, 3), (50, 0, 0, 0)]
    )
    patients = {name: name for name in "abcde"}
    n, s, v, f = classes_present(beats, patients)
    assert n == ClassPresence(name="N", beats=250, patients=5, effective_patients=5.0, left_out="")
    assert (s.beats, s.patients, s.effective_patients, s.left_out) == (0, 0, 0.0, "absent")
    # (90 + 2 + 2 + 2)^2 / (90^2 + 3 * 2^2)
    assert v.effective_patients == pytest.approx(96**2 / 8112)
    assert v.left_out == ("96 beats of 4 patients say as much as 1.1 patients would, needs 4")
    assert f.left_out == "9 beats, needs 10"


def test_records_of_one_patient_count_once() -> None:
    beats = bare_beats([(10, 10, 0, 0)] * 4)
    alone = classes_present(beats, {name: name for name in "abcd"})
    together = classes_present(beats, {"a": "x", "b": "x", "c": "y", "d": "z"})
    assert (alone[1].patients, alone[1].left_out) == (4, "")
    assert together[1].patients == 3
    assert together[1].effective_patients == pytest.approx(1600 / 600)
    assert together[1].left_out.endswith("needs 4")
