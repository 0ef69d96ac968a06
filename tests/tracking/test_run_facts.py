"""Names of runs, and texts that a store takes."""

from __future__ import annotations

import pytest

from study.config import TrialConfig
from study.tracking.run_facts import MAX_TEXT, shortened, trial_name


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (
            {"input": "opt3", "fusion": "film", "embed_dim": 64, "gate_init": -2.0},
            "7 opt3/film d=64 g=-2",
        ),
        (
            {"input": "opt1", "fusion": "mhca", "embed_dim": 64, "heads": 4, "gate_init": -0.5},
            "7 opt1/mhca d=64 h=4 g=-0.5",
        ),
        (
            {"input": "opt1", "fusion": "film", "segmentation": "centred", "rr": "placebo"},
            "7 opt1/film/centred/placebo",
        ),
        ({"input": "opt1", "fusion": "film", "late_rr": "causal"}, "7 opt1/film/causal"),
        ({"input": "ecg"}, "7 ecg"),
    ],
)
def test_trial_name_says_what_differs_from_the_default(
    params: dict[str, object], name: str
) -> None:
    assert trial_name(7, params) == name


def test_trial_name_of_the_default_configuration_has_no_extras() -> None:
    flat = TrialConfig().flat()
    assert trial_name(0, flat).split()[1] == f"{flat['input']}/{flat['fusion']}"


def test_long_text_is_cut_and_says_so() -> None:
    assert shortened("x" * MAX_TEXT) == "x" * MAX_TEXT
    cut = shortened("x" * (MAX_TEXT + 1))
    assert len(cut) == MAX_TEXT
    assert cut.endswith("x (...)")
