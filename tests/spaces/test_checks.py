"""Faults that need a whole space: illegal combinations and parameters without effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import ConfigError, SpaceError, UsageError
from study.spaces.draws import Point
from study.spaces.load import load_space, override
from study.spaces.space import Space

_SEARCH = """
description = "d"
[search]
sampler = "random"
trials = 3
"""
_COMPARE = """
description = "d"
[compare]
draws = 2
reference = "a"
"""


def load(folder: Path, text: str) -> Space:
    """Load a space of this text."""
    (folder / "s.toml").write_text(text, encoding="utf-8")
    return load_space("s", folder)


def faults_of(folder: Path, text: str) -> str:
    """Return the message that a space of this text is refused with."""
    with pytest.raises(SpaceError) as caught:
        load(folder, text)
    return str(caught.value).removeprefix(f"{folder.name}/s.toml: ")


IDLE = [
    (
        '[params.fusion]\nvalues = ["film", "mhca", "mhca_time"]\n[params.heads]\nvalues = [1, 2]',
        "params.heads: changes nothing where fusion is film; "
        'add when = { fusion = ["mhca", "mhca_time"] }',
    ),
    (
        '[params.gate]\nvalues = ["learned", "frozen", "off"]\n[params.gate_init]\n'
        "low = -4\nhigh = 0",
        "params.gate_init: changes nothing where gate is off; "
        'add when = { gate = ["learned", "frozen"] }',
    ),
    (
        '[params.loss]\nvalues = ["cross_entropy", "focal"]\n[params.focal_gamma]\n'
        "low = 0.5\nhigh = 2.0",
        "params.focal_gamma: changes nothing where loss is cross_entropy; "
        'add when = { loss = ["focal"] }',
    ),
    (
        '[fixed]\nfusion = "film"\n[params.heads]\nvalues = [1, 2]',
        "params.heads: changes nothing in this space; leave it out",
    ),
    (
        '[params.fusion]\nvalues = ["film", "concat_proj"]\n[params.gate]\n'
        'values = ["learned", "off"]\nwhen = { fusion = ["concat_proj"] }\n[params.gate_init]\n'
        'low = -4\nhigh = 0\nwhen = { fusion = ["concat_proj"] }',
        'params.gate_init: changes nothing where gate is off; add when = { gate = ["learned"] }',
    ),
    (
        '[params.loss]\nvalues = ["focal", "cross_entropy"]\n[params.focal_gamma]\n'
        'values = [1, 2]\nwhen = { loss = ["focal"] }\n[params.embed_dim]\nvalues = [64]\n'
        'when = { loss = ["cross_entropy"], focal_gamma = [1] }',
        "params.embed_dim: when: never holds",
    ),
]


@pytest.mark.parametrize(("text", "fault"), IDLE, ids=[fault[:50] for _, fault in IDLE])
def test_searched_parameter_must_change_something(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, f"{_SEARCH}{text}\n") == fault


def test_drawn_parameter_must_change_something_in_every_arm(tmp_path: Path) -> None:
    arms = '[[arms]]\nname = "a"\nfusion = "film"\n[[arms]]\nname = "b"\ninput = "ecg"\n'
    text = _COMPARE + "[params.dropout]\nlow = 0.1\nhigh = 0.2\nWHEN\n" + arms + 'fusion = "none"'
    assert faults_of(tmp_path, text.replace("WHEN", "")) == (
        'params.dropout: changes nothing where fusion is none; add when = { fusion = ["film"] }'
    )
    space = load(tmp_path, text.replace("WHEN", 'when = { fusion = ["film"] }'))
    assert [sorted(point.params) for point in space.comparisons()] == [["dropout"], []] * 2


ILLEGAL = '[params.input]\nvalues = ["ecg", "opt1"]\n[params.fusion]\nvalues = ["none", "film"]\n'


def test_illegal_combination_is_refused_with_a_remedy(tmp_path: Path) -> None:
    told = faults_of(tmp_path, _SEARCH + ILLEGAL)
    assert told.startswith("2 faults\n  - input = ecg, fusion = film: fusion: 'film' takes a late")
    assert "\n  - input = opt1, fusion = none: input: 'opt1' with fusion 'none' is" in told
    assert told.count("; leave it out by when, [[exclude]] or fewer values") == 2


def test_excluded_combination_is_nowhere(tmp_path: Path) -> None:
    text = _SEARCH + ILLEGAL + '[[exclude]]\ninput = "ecg"\nfusion = "film"\n'
    space = load(tmp_path, text + '[[exclude]]\ninput = ["opt1"]\nfusion = ["none"]\n')
    legal: list[Point] = [{"input": "ecg", "fusion": "none"}, {"input": "opt1", "fusion": "film"}]
    assert list(space.grid()) == space.defaults() == space.branches() == legal
    assert space.grid_size() == 2
    for points in ([space.random(0, i) for i in range(20)], [space.qmc(0, i) for i in range(20)]):
        assert all(points.count(point) > 2 for point in legal)
        assert len(points) == sum(points.count(point) for point in legal)
    with pytest.raises(ConfigError, match=r"left out by \[\[exclude\]\]"):
        space.configuration({"input": "ecg", "fusion": "film"})


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_sampler_that_cannot_leave_out_is_refused(tmp_path: Path, sampler: str) -> None:
    text = _SEARCH.replace("random", sampler) + '[params.loss]\nvalues = ["focal"]\n'
    assert (
        faults_of(tmp_path, text + '[[exclude]]\nloss = "focal"\n')
        .splitlines()[-1]
        .endswith(
            f"search.sampler: '{sampler}' cannot leave out the combinations of [[exclude]]; "
            "use grid, random or qmc, or one space for each part"
        )
    )


def test_a_screening_needs_a_longer_budget_and_a_sampler_that_learns_from_it(
    tmp_path: Path,
) -> None:
    text = _SEARCH.replace("random", "gp") + 'scheduler = "screening"\n[fixed]\nepochs = 1\n'
    told = faults_of(tmp_path, text + '[params.fusion]\nvalues = ["film", "concat"]\n')
    assert told == (
        "2 faults\n"
        "  - search.sampler: 'gp' learns from trials of full length, and a screening has none "
        "before its end; use tpe, random, qmc or grid, or another scheduler\n"
        "  - search.scheduler: 'screening' trains what it has screened for 1 epoch in full, which "
        "must be longer; got epochs=1; give more, or scheduler none"
    )
    mended = text.replace("gp", "tpe").replace("epochs = 1", "epochs = 2")
    space = load(tmp_path, mended + '[params.fusion]\nvalues = ["film", "concat"]\n')
    assert (space.trials, space.n_finals, space.n_trials) == (3, 2, 4), "there are two to screen"
    assert override(space, trials=1).n_trials == 2, "of two arms one is screened"
    assert override(space, scheduler="asha").n_trials == 2
    full, short = (make({"fusion": "film"}) for make in (space.configuration, space.screened))
    assert (full.train.epochs, short.train.epochs) == (2, 1)
    with pytest.raises(UsageError, match="search.scheduler: 'screening' trains"):
        override(space, epochs=1)


def test_space_of_nothing_is_refused(tmp_path: Path) -> None:
    text = _SEARCH + '[params.loss]\nvalues = ["focal"]\n[[exclude]]\nloss = "focal"\n'
    assert faults_of(tmp_path, text) == "[[exclude]] leaves out every combination"


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("heads", "heads = 3: heads: must divide embed_dim, got heads=3 and embed_dim=64"),
        ("embed_dim", "embed_dim = 3: heads: must divide embed_dim, got heads=2 and embed_dim=3"),
    ],
)
def test_heads_are_checked_at_every_value(tmp_path: Path, name: str, fault: str) -> None:
    fixed = '[fixed]\nfusion = "mhca"\n' + ("heads = 2\n" if name == "embed_dim" else "")
    values = "low = 1\nhigh = 3\n" if name == "heads" else "low = 2\nhigh = 4\n"
    assert faults_of(tmp_path, f"{_SEARCH}{fixed}[params.{name}]\n{values}").startswith(fault)


def test_long_lists_of_illegal_combinations_are_cut(tmp_path: Path) -> None:
    text = (
        _SEARCH + '[fixed]\nfusion = "mhca"\nheads = 7\n[params.embed_dim]\nlow = 8\nhigh = 20\n'
    )
    told = faults_of(tmp_path, text).splitlines()
    assert (told[0], len(told)) == ("6 faults", 7)
    assert told[-1] == "  - ... and 7 more illegal combinations"


def test_illegal_arm_is_named(tmp_path: Path) -> None:
    arms = '[[arms]]\nname = "a"\nfusion = "mhca"\nplacebo = true\n'
    told = faults_of(tmp_path, _COMPARE.replace("draws = 2", "draws = 1") + arms)
    assert told.startswith("arms.a_placebo: rr: 'placebo' is the same as 'real' with input 'opt1'")


def test_arms_must_differ(tmp_path: Path) -> None:
    arms = (
        '[[arms]]\nname = "a"\nfusion = "film"\n[[arms]]\nname = "b"\nfusion = "film"\nheads = 2\n'
    )
    told = faults_of(tmp_path, _COMPARE.replace("draws = 2", "draws = 1") + arms)
    assert told == "arms.b: is the same configuration as arm a"


@pytest.mark.parametrize(
    ("setting", "fault"),
    [
        (
            'sampler = "grid"\ntrials = 2',
            "search.sampler: grid needs a step, or values, for every parameter; continuous: "
            "dropout",
        ),
        ('sampler = "random"\ntrials = 2', None),
    ],
)
def test_grid_needs_steps(tmp_path: Path, setting: str, fault: str | None) -> None:
    text = f'description = "d"\n[search]\n{setting}\n[params.dropout]\nlow = 0.0\nhigh = 0.5\n'
    if fault is None:
        assert load(tmp_path, text).grid_size() is None
    else:
        assert faults_of(tmp_path, text) == fault


def test_grid_runs_every_cell_unless_told_otherwise(tmp_path: Path) -> None:
    params = "[params.dropout]\nlow = 0.0\nhigh = 0.5\nstep = 0.1\n"
    text = f'description = "d"\n[search]\nsampler = "grid"\nTRIALS\n{params}'
    assert load(tmp_path, text.replace("TRIALS", "")).trials == 6
    assert load(tmp_path, text.replace("TRIALS", "trials = 2")).trials == 2
    assert faults_of(tmp_path, text.replace("TRIALS", "trials = 7")) == (
        "search.trials: the grid has 6 cells, got trials=7"
    )
