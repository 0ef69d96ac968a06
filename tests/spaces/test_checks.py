"""Faults that need a whole space: illegal combinations and parameters without effect."""

from __future__ import annotations

import pytest

from study.errors import ConfigError, UsageError
from study.models import rules
from study.spaces.draws import Point
from study.spaces.load import override
from tests.builders import checked_space_of, faults_of_space

SEARCH = 'description = "d"\n[search]\nsampler = "random"\ntrials = 3\n'
COMPARE = 'description = "d"\n[compare]\ndraws = 2\nreference = "a"\n'
ONE_DRAW = COMPARE.replace("draws = 2", "draws = 1")
FUSIONS = '[params.fusion]\nvalues = ["film", "concat"]\n'

IDLE = [
    (
        '[params.fusion]\nvalues = ["film", "mhca", "mhca_time"]\n[params.heads]\nvalues = [1, 2]',
        "params.heads: changes nothing where fusion is film; "
        'add when = { fusion = ["mhca", "mhca_time"] }',
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
        '[fixed]\ntemplate = "record"\nlate_shape = "distances"\n[params.fusion]\n'
        'values = ["film", "rr_only"]\n[params.morphology]\nvalues = ["beat", "deviation"]',
        "params.morphology: changes nothing where fusion is rr_only; "
        'add when = { fusion = ["film"] }',
    ),
    (
        '[params.loss]\nvalues = ["focal", "cross_entropy"]\n[params.focal_gamma]\n'
        'values = [1, 2]\nwhen = { loss = ["focal"] }\n[params.embed_dim]\nvalues = [64]\n'
        'when = { loss = ["cross_entropy"], focal_gamma = [1] }',
        "params.embed_dim: when: never holds",
    ),
]


@pytest.mark.parametrize(("text", "fault"), IDLE, ids=[fault[:50] for _, fault in IDLE])
def test_searched_parameter_must_change_something(text: str, fault: str) -> None:
    assert faults_of_space(SEARCH + text) == [fault]


TEMPLATES = [
    (
        '[params.template]\nvalues = ["none", "record"]\n[params.morphology]\n'
        'values = ["deviation", "both"]\nwhen = { template = ["record"] }',
        3,
    ),
    (
        '[fixed]\nmorphology = "deviation"\n[params.template]\nvalues = ["record", "trailing"]\n'
        '[params.late_shape]\nvalues = ["none", "distances"]',
        4,
    ),
]


@pytest.mark.parametrize(("text", "n_configurations"), TEMPLATES)
def test_with_or_without_a_template_can_be_searched(text: str, n_configurations: int) -> None:
    space = checked_space_of(f"{SEARCH}{text}")
    assert len({rules.digest(config) for config in space.configurations()}) == n_configurations


def test_drawn_parameter_must_change_something_in_every_arm() -> None:
    arms = '[[arms]]\nname = "a"\nfusion = "film"\n[[arms]]\nname = "b"\ninput = "ecg"\n'
    text = COMPARE + "[params.dropout]\nlow = 0.1\nhigh = 0.2\nWHEN\n" + arms + 'fusion = "none"'
    assert faults_of_space(text.replace("WHEN", "")) == [
        'params.dropout: changes nothing where fusion is none; add when = { fusion = ["film"] }'
    ]
    space = checked_space_of(text.replace("WHEN", 'when = { fusion = ["film"] }'))
    assert [sorted(point.params) for point in space.comparisons()] == [["dropout"], []] * 2


ILLEGAL = '[params.input]\nvalues = ["ecg", "opt1"]\n[params.fusion]\nvalues = ["none", "film"]\n'


def test_illegal_combination_is_refused_with_a_remedy() -> None:
    told = faults_of_space(SEARCH + ILLEGAL)
    assert told[0].startswith("input = ecg, fusion = film: fusion: 'film' takes a late")
    assert told[1].startswith(
        "input = opt1, fusion = none: input: fusion 'none' does not use the "
    )
    assert all(f.endswith("; leave it out by when, [[exclude]] or fewer values") for f in told)


COMBINATIONS = ["input = ecg, fusion = film", "input = opt1, fusion = none"]
BESIDE = [
    (SEARCH.replace("[search]", "[search]\ntrails = 3"), "search.trails: unknown", COMBINATIONS),
    (f"{SEARCH}[params.learning_rate]\nlow = 1\n", "params.learning_rate: high", COMBINATIONS),
    (f'{SEARCH}[params.heads]\nvalues = ["x"]\n', "params.heads: ", []),
    (f"{SEARCH}[parms.heads]\nvalues = [1]\n", "unknown key 'parms'", []),
]


@pytest.mark.parametrize(
    ("text", "fault", "others"), BESIDE, ids=[fault for _, fault, _ in BESIDE]
)
def test_combinations_are_judged_beside_a_fault(text: str, fault: str, others: list[str]) -> None:
    told = faults_of_space(text + ILLEGAL)
    assert told[0].startswith(fault)
    assert [said.partition(": ")[0] for said in told[1:]] == others


def test_excluded_combination_is_nowhere() -> None:
    text = SEARCH + ILLEGAL + '[[exclude]]\ninput = "ecg"\nfusion = "film"\n'
    space = checked_space_of(text + '[[exclude]]\ninput = ["opt1"]\nfusion = ["none"]\n')
    legal: list[Point] = [{"input": "ecg", "fusion": "none"}, {"input": "opt1", "fusion": "film"}]
    assert list(space.grid()) == space.defaults() == space.branches() == legal
    assert space.grid_size() == 2
    for points in ([space.random(0, i) for i in range(20)], [space.qmc(0, i) for i in range(20)]):
        assert all(points.count(point) > 2 for point in legal)
        assert len(points) == sum(points.count(point) for point in legal)
    with pytest.raises(ConfigError, match=r"left out by \[\[exclude\]\]"):
        space.configuration({"input": "ecg", "fusion": "film"})


OF_SAMPLER = [
    ('"tpe"', f'{FUSIONS}[[exclude]]\nfusion = "film"\n', "'tpe' cannot leave out the"),
    ('"gp"\nscheduler = "screening"', FUSIONS, "'gp' learns from trials of full length"),
    ('"grid"', "[params.dropout]\nlow = 0.0\nhigh = 0.5\n", "grid needs a step, or values, for"),
    (
        '"grid"',
        "[params.batch_size]\nlow = 2\nhigh = 65536\n"
        "[params.normal_beats_per_epoch]\nlow = 0\nhigh = 1000000",
        "a grid must have at most 1000000 cells, got 65535065535",
    ),
]


@pytest.mark.parametrize(("sampler", "text", "fault"), OF_SAMPLER)
def test_sampler_must_be_able_to_propose(sampler: str, text: str, fault: str) -> None:
    (told,) = faults_of_space(SEARCH.replace('"random"', sampler) + text)
    assert told.startswith(f"search.sampler: {fault}")


def test_a_screening_needs_a_longer_budget() -> None:
    text = SEARCH.replace("random", "tpe") + 'scheduler = "screening"\n[fixed]\nepochs = 1\n'
    assert faults_of_space(text + FUSIONS) == [
        "search.scheduler: 'screening' trains what it has screened for 1 epoch in full, which "
        "must be longer; got epochs=1; give more, take --scheduler none, or --quick for a "
        "rehearsal"
    ]
    space = checked_space_of(text.replace("epochs = 1", "epochs = 2") + FUSIONS)
    assert (space.trials, space.n_finals, space.n_trials) == (3, 2, 4), "there are two to screen"
    assert override(space, trials=1).n_trials == 2, "of two arms one is screened"
    assert override(space, scheduler="asha").n_trials == 2
    full, short = (make({"fusion": "film"}) for make in (space.configuration, space.screened))
    assert (full.train.epochs, short.train.epochs) == (2, 1)
    with pytest.raises(UsageError, match="search.scheduler: 'screening' trains"):
        override(space, epochs=1)


OTHERS = [
    (SEARCH.replace("random", "grid") + FUSIONS, "search.trials: the grid has 2 cells, got"),
    (
        SEARCH + '[fixed]\nfusion = "mhca"\nheads = 2\n[params.embed_dim]\nlow = 2\nhigh = 4\n',
        "embed_dim = 3: heads: must divide embed_dim, got heads=2 and embed_dim=3; allowed: 1, 3",
    ),
    (
        SEARCH + "[params.embed_dim]\nlow = 1\nhigh = 4096\n[params.heads]\nlow = 1\nhigh = 64",
        "params: words, whole numbers of the model, conditions and exclusions must have at most ",
    ),
    (
        ONE_DRAW + '[[arms]]\nname = "a"\nfusion = "mhca"\nplacebo = true\n',
        "arms.a_placebo: rr: 'placebo' is the same as 'real' with input 'opt1'",
    ),
    (
        ONE_DRAW + 'seeds = 4\npartitions = 3\n[[arms]]\nname = "a"\n',
        "seeds: must be a multiple of partitions, which is 3, as each seed has the folds of one",
    ),
    (
        ONE_DRAW + 'seeds = 2\npartitions = 2\nfolds = "published"\n[[arms]]\nname = "a"\n',
        "partitions: must be 1 with folds 'published', got 2",
    ),
    (
        ONE_DRAW + '[[arms]]\nname = "a"\n[[arms]]\nname = "b"\nheads = 2',
        "arms.b: is the same configuration as arm a",
    ),
]


@pytest.mark.parametrize(("text", "fault"), OTHERS, ids=[fault[:40] for _, fault in OTHERS])
def test_fault_of_a_whole_space(text: str, fault: str) -> None:
    (told,) = faults_of_space(text)
    assert told.startswith(fault)
