"""Legal combinations, error texts, active parameters, digests, arms and routes of RR."""

from __future__ import annotations

from itertools import product

import pytest

from study.config import INPUTS, ModelConfig, TrainConfig, TrialConfig
from study.errors import ConfigError
from study.models.fusion import FUSIONS
from study.models.rules import (
    active_parameters,
    arm,
    check_combination,
    digest,
    fusions_for,
    inputs_for,
    rr_routes,
)

BLIND = {"none", "attention_pool"}
LATE = {
    "concat",
    "concat_proj",
    "mhca",
    "mhca_residual",
    "mhca_time",
    "film",
    "expert_sum",
}
LEGAL = {
    "ecg": BLIND,
    "opt2": BLIND,
    "opt1": LATE | {"rr_only"},
    "opt3": LATE,
}
"""Input: its fusions, from DESIGN.md section 1."""


def trial(**values: object) -> TrialConfig:
    return TrialConfig.from_flat(values)


def check(**values: object) -> None:
    config = trial(**values)
    check_combination(config.signal, config.model)


def test_legal_pairs_are_those_of_the_design() -> None:
    assert set(LEGAL) == set(INPUTS)
    for input_, fusion in product(INPUTS, FUSIONS):
        if fusion in LEGAL[input_]:
            check(input=input_, fusion=fusion)
        else:
            with pytest.raises(ConfigError):
                check(input=input_, fusion=fusion)
    assert {input_: set(fusions_for(input_)) for input_ in INPUTS} == LEGAL
    assert inputs_for("rr_only") == ("opt1",)
    assert inputs_for("none") == ("opt2", "ecg")


@pytest.mark.parametrize(
    ("values", "faults"),
    [
        ({"fusion": "mhca_tme"}, ["Did you mean 'mhca_time'?"]),
        (
            {"input": "opt1", "fusion": "none"},
            ['late RR vector it would not use; write input = "ecg"'],
        ),
        ({"input": "opt3", "fusion": "attention_pool"}, ['write input = "opt2"']),
        (
            {"input": "opt3", "fusion": "rr_only"},
            ['early channels it would not use; write input = "opt1"'],
        ),
        (
            {"input": "opt2", "fusion": "film"},
            ["inputs for 'film': opt1, opt3; fusions for 'opt2': none, attention_pool"],
        ),
        (
            {"fusion": "mhca", "heads": 3},
            ["heads=3 and embed_dim=64; allowed: 1, 2, 4, 8, 16, 32, 64"],
        ),
        (
            {"input": "ecg", "fusion": "none", "rr": "placebo"},
            ["inputs with RR: opt1, opt2, opt3"],
        ),
        (
            {"input": "opt1", "fusion": "mhca", "rr": "placebo", "heads": 7},
            ["2 faults", "rr: 'placebo' is the same as 'real'", "heads: must divide embed_dim"],
        ),
    ],
)
def test_refusals_name_the_way_out(values: dict[str, object], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        check(**values)
    for fault in faults:
        assert fault in str(error.value)


def test_a_refusal_in_full() -> None:
    with pytest.raises(ConfigError) as error:
        check(input="opt2", fusion="mhca_time", heads=5, embed_dim=32)
    assert str(error.value) == (
        "configuration: 2 faults\n"
        "  - fusion: 'mhca_time' takes a late RR vector, and input 'opt2' has none; "
        "inputs for 'mhca_time': opt1, opt3; fusions for 'opt2': none, attention_pool\n"
        "  - heads: must divide embed_dim, got heads=5 and embed_dim=32; "
        "allowed: 1, 2, 4, 8, 16, 32"
    )


@pytest.mark.parametrize(
    ("input_", "fusion"),
    [("opt1", "film"), ("opt1", "rr_only"), ("opt2", "none"), ("opt3", "mhca")],
)
def test_placebo_goes_where_rr_enters(input_: str, fusion: str) -> None:
    check(input=input_, fusion=fusion, rr="placebo")


def test_heads_bind_only_fusions_that_have_them() -> None:
    check(fusion="film", heads=3)


ALWAYS = {
    "input",
    "segmentation",
    "resampling",
    "fusion",
    "epochs",
    "batch_size",
    "normal_beats_per_epoch",
    "loss",
    "class_weights",
    "label_smoothing",
    "learning_rate",
    "schedule",
    "weight_decay",
    "gradient_clip",
    "ema_decay",
}
LATE_ACTIVE = {"late_rr", "rr_scale"}
BY_INPUT = {"rr", "rr_dropout"}
ATTENTION = {"embed_dim", "heads", "ffn_expansion", "gate", "gate_init", "dropout"}


@pytest.mark.parametrize(
    ("values", "active"),
    [
        ({"input": "ecg", "fusion": "none"}, ALWAYS),
        ({"input": "opt2", "fusion": "none"}, ALWAYS | BY_INPUT | {"ratio_mean"}),
        (
            {"input": "opt1", "fusion": "film"},
            ALWAYS | BY_INPUT | LATE_ACTIVE | {"embed_dim", "dropout"},
        ),
        (
            {"input": "opt1", "fusion": "film", "late_rr": "ratio2"},
            ALWAYS | BY_INPUT | LATE_ACTIVE | {"embed_dim", "dropout", "ratio_mean"},
        ),
        # Blind, but heads and the RR set stay: identical results are to be noticed.
        ({"input": "opt1", "fusion": "mhca"}, ALWAYS | LATE_ACTIVE | ATTENTION),
        (
            {"input": "opt3", "fusion": "mhca", "gate": "off"},
            ALWAYS | BY_INPUT | LATE_ACTIVE | (ATTENTION - {"gate_init"}) | {"ratio_mean"},
        ),
        ({"input": "ecg", "fusion": "attention_pool"}, ALWAYS | ATTENTION),
        (
            {"input": "opt1", "fusion": "concat_proj", "loss": "focal"},
            ALWAYS | BY_INPUT | LATE_ACTIVE | (ATTENTION - {"heads"}) | {"focal_gamma"},
        ),
        (
            {"input": "opt1", "fusion": "rr_only"},
            (ALWAYS - {"segmentation", "resampling"})
            | BY_INPUT
            | LATE_ACTIVE
            | {"embed_dim", "dropout"},
        ),
    ],
)
def test_active_parameters(values: dict[str, object], active: set[str]) -> None:
    assert set(active_parameters(trial(**values))) == active


def test_active_parameters_resolve_resampling() -> None:
    assert active_parameters(trial(segmentation="daeac"))["resampling"] == "linear"
    assert active_parameters(trial(segmentation="beat"))["resampling"] == "antialiased"


FILM = {"input": "opt1", "fusion": "film"}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (FILM, FILM | {"heads": 8, "gate": "off", "gate_init": 0.0}, True),
        (FILM, FILM | {"resampling": "linear"}, True),
        (FILM, FILM | {"resampling": "antialiased"}, False),
        (FILM, FILM | {"focal_gamma": 1.0, "ratio_mean": "record"}, True),
        (FILM, FILM | {"rr": "placebo"}, False),
        (FILM, FILM | {"rr_dropout": 0.5}, False),
        ({"fusion": "mhca", "heads": 1}, {"fusion": "mhca", "heads": 4}, False),
        (
            {"fusion": "rr_only", "segmentation": "beat"},
            {"fusion": "rr_only", "segmentation": "daeac"},
            True,
        ),
    ],
)
def test_digest(first: dict[str, object], second: dict[str, object], same: bool) -> None:
    assert (digest(trial(**first)) == digest(trial(**second))) is same


def test_digest_does_not_see_how_a_number_was_written() -> None:
    base = trial(fusion="concat_proj", gate_init=-2.0, weight_decay=1.0)
    whole = TrialConfig(
        model=ModelConfig(fusion="concat_proj", gate_init=-2),
        train=TrainConfig(weight_decay=1),
    )
    assert digest(base) == digest(whole)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"input": "opt1", "fusion": "film"}, "opt1 / daeac / film / seed7 / real"),
        (
            {"input": "opt3", "fusion": "mhca", "late_rr": "causal", "rr": "placebo"},
            "opt3 / daeac / mhca / causal / placebo",
        ),
        (
            {"input": "opt1", "fusion": "mhca", "segmentation": "centred"},
            "opt1 / centred / mhca / seed7",
        ),
        ({"input": "opt2", "fusion": "none"}, "opt2 / daeac / none / real"),
        ({"input": "ecg", "fusion": "none", "segmentation": "beat"}, "ecg / beat / none"),
        ({"input": "opt1", "fusion": "rr_only"}, "opt1 / rr_only / seed7 / real"),
    ],
)
def test_arm(values: dict[str, object], name: str) -> None:
    assert arm(trial(**values)) == name
    nuisance: dict[str, object] = {"learning_rate": 1e-4, "embed_dim": 32, "gate": "off"}
    assert arm(trial(**values, **nuisance)) == name


@pytest.mark.parametrize(
    ("values", "routes", "text"),
    [
        (
            {"input": "opt3", "fusion": "film"},
            (True, True, True),
            "RR reaches the output by: early channels, late vector, window",
        ),
        (
            {"input": "opt1", "fusion": "film", "segmentation": "fixed"},
            (False, True, False),
            "RR reaches the output by: late vector",
        ),
        (
            {"input": "opt1", "fusion": "mhca", "segmentation": "centred"},
            (False, False, False),
            "RR cannot be used (mhca is blind to the late vector it is given; neighbouring "
            "beats inside the window can show the rhythm)",
        ),
        (
            {"input": "opt2", "fusion": "none", "rr": "placebo"},
            (True, False, True),
            "RR reaches the output by: early channels, window (the placebo leaves the window "
            "as it is)",
        ),
        (
            {"input": "opt1", "fusion": "rr_only"},
            (False, True, False),
            "RR reaches the output by: late vector",
        ),
    ],
)
def test_rr_routes(values: dict[str, object], routes: tuple[bool, bool, bool], text: str) -> None:
    got = rr_routes(trial(**values))
    assert (got.early, got.late, got.window) == routes
    assert got.inputs is (routes[0] or routes[1])
    assert got.text() == text
