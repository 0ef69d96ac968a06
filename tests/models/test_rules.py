"""Legal combinations, error texts, active parameters, digests, arms and routes of RR."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from study.config import INPUTS, TrainConfig, TrialConfig
from study.errors import ConfigError
from study.models import rules
from study.models.fusion import FUSIONS
from tests.builders import refused

BLIND = {"none", "attention_pool"}
LATE = {"concat", "concat_proj", "film", "expert_sum"}
LATE |= {"mhca", "mhca_residual", "mhca_time_plain", "mhca_time"}
LEGAL = {"ecg": BLIND, "opt2": BLIND, "opt1": LATE | {"rr_only"}, "opt3": LATE}
"""Input: its fusions, from DESIGN.md section 1."""

Values = dict[str, Any]


def trial(values: Values) -> TrialConfig:
    return TrialConfig.from_flat(values)


def of(input_: str, fusion: str, **others: object) -> Values:
    return {"input": input_, "fusion": fusion, **others}


def check(values: Values) -> None:
    config = trial(values)
    rules.check_combination(config.signal, config.model)


def test_legal_pairs_are_those_of_the_design() -> None:
    assert set(LEGAL) == set(INPUTS)
    for input_, fusion in product(INPUTS, FUSIONS):
        if fusion in LEGAL[input_]:
            check(of(input_, fusion))
        else:
            with pytest.raises(ConfigError):
                check(of(input_, fusion))
    assert {input_: set(rules.fusions_for(input_)) for input_ in INPUTS} == LEGAL
    for input_, fusion in (("opt1", "film"), ("opt1", "rr_only"), ("opt2", "none")):
        check(of(input_, fusion, rr="placebo"))
    for template, using in product(("record", "trailing", "learning"), USES_TEMPLATE):
        check(FILM | using | {"template": template})
    # Without a late vector late_shape is idle, as late_rr is.
    check(of("ecg", "none", late_shape="distances"))
    # Heads bind only fusions that have them.
    check({"fusion": "film", "heads": 3})


FILM = of("opt1", "film")
DEVIATION = {"template": "record", "morphology": "deviation"}
DISTANCES = {"template": "record", "late_shape": "distances"}
USES_TEMPLATE = (DEVIATION, DISTANCES, DEVIATION | DISTANCES, DISTANCES | {"morphology": "both"})

REFUSED = [
    (of("opt1", "none"), "late RR vector of input 'opt1'; write input = \"ecg\""),
    (of("opt3", "rr_only"), "early channels of input 'opt3'; write input = \"opt1\""),
    (of("ecg", "none", rr="placebo"), "inputs with RR: opt1, opt2, opt3"),
    (of("opt1", "mhca", rr="placebo"), "rr: 'placebo' is the same as 'real'"),
    (of("opt1", "film", template="record"), "late_shape 'none'; write template = \"none\""),
    (of("ecg", "none", template="record", late_shape="distances"), "which has no late vector"),
    (of("opt1", "film", morphology="both"), "templates: record, trailing, learning"),
    (of("opt1", "film", late_shape="distances"), "late_shape: 'distances' is from a template"),
]


@pytest.mark.parametrize(("values", "fault"), REFUSED)
def test_refusals_name_the_way_out(values: Values, fault: str) -> None:
    assert fault in refused(ConfigError, check, values)


def test_a_refusal_in_full() -> None:
    assert refused(
        ConfigError, check, of("opt2", "mhca_time", heads=5, embed_dim=32, backbone_width=100)
    ) == (
        "configuration: 3 faults\n"
        "  - fusion: 'mhca_time' takes a late RR vector, and input 'opt2' has none; "
        "inputs for 'mhca_time': opt1, opt3; fusions for 'opt2': none, attention_pool\n"
        "  - heads: must divide embed_dim, got heads=5 and embed_dim=32; "
        "allowed: 1, 2, 4, 8, 16, 32\n"
        "  - backbone_width: must be a multiple of 64, got 100; allowed: 64, 128, 192, 256"
    )


ALWAYS = {"input", "segmentation", "resampling", "fusion"} | (
    set(TrainConfig.__annotations__) - {"focal_gamma", "rr_dropout", "augment"}
)
RR = {"rr", "rr_dropout"}
LATE_RR = {"late_rr", "rr_scale"}
MLP = {"embed_dim", "dropout"}
ATTENTION = {*MLP, "heads", "ffn_expansion", "gate", "gate_init"}

LATER = {"backbone_width": 128, "backbone_dropout": 0.1, "rr_loss": 0.5, "augment": 1.0}

ACTIVE = [
    (of("ecg", "none"), ALWAYS),
    (of("opt2", "none"), ALWAYS | RR | {"ratio_mean"}),
    (of("opt1", "film", **LATER), ALWAYS | RR | LATE_RR | MLP | (set(LATER) - {"rr_loss"})),
    (of("opt1", "expert_sum", **LATER), ALWAYS | RR | LATE_RR | MLP | set(LATER)),
    # Blind, but heads and the RR set stay: identical results are to be noticed.
    (of("opt1", "mhca", gate="off"), ALWAYS | LATE_RR | (ATTENTION - {"gate_init"})),
    (of("ecg", "attention_pool"), ALWAYS | ATTENTION),
    (
        of("opt1", "concat_proj", loss="focal"),
        ALWAYS | RR | LATE_RR | (ATTENTION - {"heads"}) | {"focal_gamma"},
    ),
    (
        of("opt1", "rr_only", **LATER),
        (ALWAYS - {"segmentation", "resampling"}) | RR | LATE_RR | MLP,
    ),
    # Without late vector no distances, without ECG no deviation; and then no template.
    (of("ecg", "none", **DEVIATION, late_shape="distances"), ALWAYS | {"template", "morphology"}),
    (
        of("opt1", "rr_only", **DEVIATION, late_shape="distances"),
        (ALWAYS - {"segmentation", "resampling"})
        | RR
        | LATE_RR
        | MLP
        | {"template", "late_shape"},
    ),
]


@pytest.mark.parametrize(("values", "active"), ACTIVE)
def test_active_parameters(values: Values, active: set[str]) -> None:
    assert set(rules.active_parameters(trial(values))) == active


def test_digest() -> None:
    for first, second, same in (
        (FILM, FILM | {"heads": 8, "gate": "off", "gate_init": 0.0}, True),
        (FILM | {"weight_decay": 1}, FILM | {"weight_decay": 1.0}, True),
        (FILM, FILM | {"resampling": "linear"}, True),
        (FILM, FILM | {"resampling": "antialiased"}, False),
        (FILM, FILM | {"rr": "placebo"}, False),
        ({"fusion": "mhca", "heads": 1}, {"fusion": "mhca", "heads": 4}, False),
        (of("opt1", "rr_only", segmentation="beat"), of("opt1", "rr_only"), True),
        (of("opt1", "rr_only", **DEVIATION), of("opt1", "rr_only"), True),
        (FILM | DEVIATION, FILM | DEVIATION | {"template": "trailing"}, False),
        (FILM | DISTANCES, FILM | DISTANCES | {"morphology": "both"}, False),
    ):
        assert (rules.digest(trial(first)) == rules.digest(trial(second))) is same


@pytest.mark.parametrize(
    ("values", "name"),
    [
        (FILM, "opt1 / daeac / film / published7 / real"),
        (
            of("opt3", "mhca", late_rr="causal", rr="placebo"),
            "opt3 / daeac / mhca / causal / placebo",
        ),
        (of("ecg", "none", segmentation="beat"), "ecg / beat / none"),
        (of("opt1", "rr_only"), "opt1 / rr_only / published7 / real"),
        (
            FILM | DEVIATION | DISTANCES,
            "opt1 / daeac / record / deviation / film / published7 / distances / real",
        ),
    ],
)
def test_arm(values: Values, name: str) -> None:
    assert rules.arm(trial(values)) == name
    assert rules.arm(trial(values | {"learning_rate": 0.1, "embed_dim": 8, "gate": "off"})) == name


def test_rr_routes() -> None:
    for values, routes, text in (
        (of("opt3", "film"), (True, True, True), "by: early channels, late vector, window"),
        (of("opt1", "film", segmentation="fixed"), (False, True, False), "by: late vector"),
        (
            of("opt1", "mhca", segmentation="centred"),
            (False, False, False),
            "RR cannot be used (mhca is blind to the late vector it is given; neighbouring "
            "beats inside the window can show the rhythm)",
        ),
        (
            of("opt2", "none", rr="placebo"),
            (True, False, True),
            "by: early channels, window (the placebo leaves the window as it is)",
        ),
    ):
        got = rules.rr_routes(trial(values))
        assert (got.early, got.late, got.window) == routes
        assert got.inputs is (routes[0] or routes[1])
        assert got.text().removeprefix("RR reaches the output ") == text
