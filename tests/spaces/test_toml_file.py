"""Faults of a space file: each named with file, key, what was got and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import SpaceError
from study.spaces.load import load_space

SEARCH = """
description = "d"
[search]
sampler = "random"
trials = 3
[fixed]
fusion = "mhca_time"
"""

COMPARE = """
description = "d"
[compare]
draws = 2
reference = "film"
[fixed]
segmentation = "beat"
[params.dropout]
low = 0.0
high = 0.5
[[arms]]
name = "film"
fusion = "film"
placebo = true
[[arms]]
name = "concat"
fusion = "concat"
"""

_PARAMETERS = (
    "batch_size, class_weights, dropout, ema_decay, embed_dim, epochs, ffn_expansion, "
    "focal_gamma, fusion, gate, gate_init, gradient_clip, heads, input, label_smoothing, "
    "late_rr, learning_rate, loss, normal_beats_per_epoch, ratio_mean, resampling, rr, "
    "rr_dropout, rr_scale, schedule, segmentation, weight_decay"
)
_FUSIONS = (
    "attention_pool, concat, concat_proj, expert_sum, film, mhca, mhca_residual, mhca_time, "
    "none, rr_only"
)


def faults_of(folder: Path, text: str) -> str:
    """Return the message that a space of this text is refused with."""
    (folder / "s.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SpaceError) as caught:
        load_space("s", folder)
    message = str(caught.value)
    assert message.startswith(f"{folder.name}/s.toml: ")
    return message.removeprefix(f"{folder.name}/s.toml: ")


LOSSES = '[params.loss]\nvalues = ["focal", "cross_entropy"]'

PARAM_FAULTS = [
    ("hads", "values = [1]", "unknown parameter 'hads'"),
    ("input", 'values = ["opt1", "op3"]', "unknown value 'op3'"),
    ("heads", "values = [1, 2.5]", "must be a whole number, got 2.5"),
    ("heads", "values = [1, true]", "must be a whole number, got True"),
    ("heads", "values = []", "values must be a list of at least one value, got []"),
    ("heads", "values = [1, 2, 1]", "values must differ, got 1 more than once"),
    ("heads", "values = [1, 2]\ndefault = 4", "default must be one of the values, got 4"),
    ("heads", "values = [1, 2]\nlog = true", "log does not go with values"),
    ("heads", "values = [1]\nlow = 1\nhigh = 2", "needs either values = [...] or low and high"),
    ("heads", "default = 1", "needs either values = [...] or low and high"),
    ("dropout", "low = 0.0\nhgh = 0.5\nhigh = 0.5", "unknown key 'hgh'"),
    ("dropout", "low = 0.0", "high is missing: a range needs low and high"),
    ("dropout", "low = 0.5\nhigh = 0.1", "`low <= high` must hold, but got low=0.5 and high=0.1"),
    ("dropout", "low = 0.0\nhigh = 1.5", "high: must be in [0, 0.95], got 1.5"),
    ("dropout", "low = nan\nhigh = 0.5", "low: must be in [0, 0.95], got nan"),
    ("dropout", "low = 0.0\nhigh = 0.5\nlog = 1", "log must be true or false, got 1"),
    (
        "dropout",
        "low = 0.0\nhigh = 0.5\nlog = true",
        "`low > 0` must hold with log = true, but got low=0.0",
    ),
    (
        "dropout",
        "low = 0.0\nhigh = 0.5\nstep = 0.2",
        "whole steps must lead from low to high, but got low=0.0, high=0.5",
    ),
    ("embed_dim", "low = 16\nhigh = 64\nstep = 0.5", "step must be a whole number, got 0.5"),
    ("dropout", "low = 0.0\nhigh = 0.5\nstep = 0", "step must be a finite number above 0, got 0"),
    (
        "dropout",
        "low = 0.0\nhigh = 0.5\nstep = inf",
        "step must be a finite number above 0, got inf",
    ),
    (
        "learning_rate",
        "low = 1e-3\nhigh = 1e-2\nlog = true\nstep = 1e-3",
        "step and log = true exclude each other",
    ),
    (
        "dropout",
        "low = 0.0\nhigh = 0.4\nstep = 0.2\ndefault = 0.3",
        "default must lie in the range, got 0.3",
    ),
    ("input", "low = 0\nhigh = 1", "is a word, not a number: give values = [...]"),
    (
        "heads",
        'values = [1, 2]\nwhen = "mhca"',
        "when: must be a table such as { fusion = [\"mhca\"] }, got 'mhca'",
    ),
    (
        "heads",
        'values = [1, 2]\nwhen = { fusin = ["mhca"] }\n[params.loss]\nvalues = ["focal"]',
        "when: unknown parameter 'fusin'; known: heads, loss.",
    ),
    (
        "focal_gamma",
        'values = [1, 2]\nwhen = { loss = ["focl"] }\n' + LOSSES,
        "when: loss: unknown value 'focl'",
    ),
    (
        "focal_gamma",
        'values = [1, 2]\nwhen = { loss = "focal" }\n' + LOSSES,
        "when: loss: must be a list of values, got 'focal'",
    ),
    (
        "heads",
        "values = [1, 2]\nwhen = { embed_dim = [64] }\n[params.embed_dim]\nlow = 32\nhigh = 64",
        "when: embed_dim: is a range",
    ),
    (
        "loss",
        'values = ["focal"]\nwhen = { gate = ["off"] }\n'
        '[params.gate]\nvalues = ["off"]\nwhen = { loss = ["focal"] }',
        "when: conditions form a circle among: loss, gate",
    ),
]


@pytest.mark.parametrize(("name", "text", "fault"), PARAM_FAULTS)
def test_fault_of_a_parameter(tmp_path: Path, name: str, text: str, fault: str) -> None:
    told = faults_of(tmp_path, f"{SEARCH}\n[params.{name}]\n{text}\n")
    assert told.startswith(f"params.{name}: {fault}")


_OK = "[params.heads]\nvalues = [1, 2]\n"

SECTION_FAULTS = [
    (
        SEARCH + '[params.fusion]\nvalues = ["film"]',
        "fixed: fusion: is also in [params]; leave one of them out",
    ),
    (
        SEARCH + "[params]\nheads = 4",
        "params.heads: must be a table with values, or with low and high",
    ),
    ('description = "d"', "needs exactly one of [search] and [compare], but got none"),
    (SEARCH + _OK + "[compare]\n", "needs exactly one of [search] and [compare], but got both"),
    (SEARCH, "params: nothing to search; give at least one [params.NAME]"),
    (SEARCH.replace('"d"', '" "') + _OK, "description: must be a line of text, got ' '"),
    (SEARCH + _OK + "[serch]\nx = 1", "unknown key 'serch'"),
    (
        SEARCH.replace("trials", "trails") + _OK,
        "2 faults\n"
        "  - search.trails: unknown setting 'trails'; known: folds, objective, reduction_factor, "
        "sampler, scheduler, seeds, trials. Did you mean 'trials'?\n"
        "  - search.trials: is missing",
    ),
    (SEARCH.replace('"random"', '"tpee"') + _OK, "search.sampler: unknown value 'tpee'"),
    (
        SEARCH.replace("trials = 3", "trials = 0") + _OK,
        "search.trials: must be a whole number in [1, 1000000], got 0",
    ),
    (
        SEARCH.replace("trials = 3", "trials = 3\nfolds = 1") + _OK,
        "search.folds: must be a whole number in [2, 1000] or 'published', got 1",
    ),
    (
        SEARCH.replace("trials = 3", 'trials = 3\nfolds = "publshed"') + _OK,
        "search.folds: must be a whole number in [2, 1000] or 'published', got 'publshed'",
    ),
    (
        SEARCH.replace("trials = 3", "trials = 3\nseeds = 1.5") + _OK,
        "search.seeds: must be a whole number in [1, 1000], got 1.5",
    ),
    (
        SEARCH.replace("trials = 3", 'trials = 3\nobjective = "f1"') + _OK,
        "search.objective: unknown value 'f1'",
    ),
    (SEARCH.replace('"mhca_time"', '"mhca_tme"') + _OK, "fixed: fusion: unknown value 'mhca_tme'"),
    (SEARCH + 'segmentaton = "beat"\n' + _OK, "fixed: unknown parameter 'segmentaton'"),
    ("params = 3\n" + SEARCH, "params: must be a table [params], got 3"),
    (SEARCH + _OK + "[[arms]]\n", "[[arms]] means nothing in a search space"),
    (
        SEARCH + _OK + "[[exclude]]\nhead = 1\n",
        "exclude[1]: unknown searched parameter with values 'head'",
    ),
    (
        SEARCH + _OK + "[[exclude]]\nheads = [1, 3]\n",
        "exclude[1]: heads: unknown value '3'; known: 1, 2.",
    ),
    (SEARCH + _OK + "[[exclude]]\n", "exclude[1]: is empty and would leave out everything"),
    ("exclude = 1\n" + SEARCH + _OK, "exclude: must be a list of tables [[exclude]], got 1"),
    (
        COMPARE.replace("draws = 2", "draws = 2\ntrials = 4"),
        "compare.trials: unknown setting 'trials'",
    ),
    (COMPARE.replace("draws = 2\n", ""), "compare.draws: is missing"),
    (
        COMPARE.replace('reference = "film"', 'reference = "flim"'),
        "compare.reference: unknown arm 'flim'",
    ),
    (
        COMPARE.replace('reference = "film"\n', ""),
        "compare.reference: is missing; arms: concat, film, film_placebo",
    ),
    (
        COMPARE.replace("draws = 2", 'draws = 2\ncontrasts = [["film"]]'),
        'compare.contrasts[1]: must be a pair of arms ["a", "b"], got [\'film\']',
    ),
    (
        COMPARE.replace("draws = 2", 'draws = 2\ncontrasts = "film"'),
        "compare.contrasts: must be a list of pairs of arms, got 'film'",
    ),
    (
        COMPARE.replace(
            "draws = 2",
            'draws = 2\ncontrasts = [["film", "concat"], ["concat", "film"], ["film", "film"], '
            '["film", "cncat"]]',
        ),
        "3 faults\n"
        "  - compare.contrasts[2]: concat and film are compared already\n"
        "  - compare.contrasts[3]: 'film' is compared with itself\n"
        "  - compare.contrasts[4]: unknown arm 'cncat'; known: concat, film, film_placebo. "
        "Did you mean 'concat'?",
    ),
    (
        COMPARE + "dropout = 0.1\n",
        "arms.concat: dropout: is drawn for every arm by [params]; an arm cannot set it",
    ),
    (
        COMPARE.replace("placebo = true", 'placebo = true\nrr = "placebo"'),
        'arms.film: placebo: the arm has rr = "placebo" already',
    ),
    (
        COMPARE.replace("placebo = true", "placebo = 1"),
        "arms.film: placebo: must be true or false, got 1",
    ),
    (COMPARE + '[[arms]]\nname = "concat"', "arms.concat: the name is used more than once"),
    (
        COMPARE + '[[arms]]\nname = "a/b"',
        "arms[3]: name must be letters, digits, - and _, at most 100, got 'a/b'",
    ),
    (
        'description = "d"\n[compare]\ndraws = 1\nreference = "a"\n',
        "arms: a compare space needs at least one [[arms]]",
    ),
    (
        COMPARE.replace("[params.dropout]\nlow = 0.0\nhigh = 0.5\n", "").replace(
            "draws = 2", 'draws = "x"'
        ),
        "compare.draws: must be a whole number in [1, 1000], got 'x'",
    ),
    (
        COMPARE.replace("draws = 2", "draws = 0"),
        "compare.draws: must be a whole number in [1, 1000], got 0",
    ),
    (
        COMPARE.replace('reference = "film"', 'reference = ["film"]'),
        "compare.reference: must be the name of an arm, got ['film']",
    ),
    (
        COMPARE.replace("[params.dropout]\nlow = 0.0\nhigh = 0.5\n", ""),
        "compare.draws: must be 1, as [params] has nothing to draw; got 2",
    ),
    (
        COMPARE.replace(
            "high = 0.5\n", 'high = 0.5\nwhen = { fusion = ["flim"], segmentation = ["bet"] }\n'
        ),
        "2 faults\n"
        f"  - params.dropout: when: fusion: unknown value 'flim'; known: {_FUSIONS}. "
        "Did you mean 'film'?\n"
        "  - params.dropout: when: segmentation: unknown value 'bet'; known: beat, centred, "
        "daeac, fixed. Did you mean 'beat'?",
    ),
]


@pytest.mark.parametrize(
    ("text", "fault"), SECTION_FAULTS, ids=[fault[:60] for _, fault in SECTION_FAULTS]
)
def test_fault_of_a_section(tmp_path: Path, text: str, fault: str) -> None:
    assert faults_of(tmp_path, text).startswith(fault)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    text = """
description = "d"
[search]
sampler = "tpo"
trials = 3
[fixed]
epochs = "six"
[params.heads]
values = [1, 2, "four"]
[params.dropout]
low = 0.5
high = 0.1
"""
    assert faults_of(tmp_path, text) == (
        "4 faults\n"
        "  - search.sampler: unknown value 'tpo'; known: gp, grid, qmc, random, tpe. "
        "Did you mean 'tpe'?\n"
        "  - fixed: epochs: must be a whole number, got 'six'\n"
        "  - params.heads: must be a whole number, got 'four'\n"
        "  - params.dropout: `low <= high` must hold, but got low=0.5 and high=0.1"
    )


def test_text_that_is_not_toml_says_where(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "[search\n").startswith("is not TOML: ")
    assert "line 1" in faults_of(tmp_path, "[search\n")


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "s.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpaceError, match=r"/s\.toml: is not UTF-8 text: invalid start byte"):
        load_space("s", tmp_path)


def test_unknown_space_lists_what_there_is(tmp_path: Path) -> None:
    for name in ("fusion_grid", "smoke"):
        (tmp_path / f"{name}.toml").write_text("")
    with pytest.raises(SpaceError) as caught:
        load_space("fusion_gird", tmp_path)
    assert str(caught.value) == (
        "unknown space 'fusion_gird'; known: fusion_grid, smoke. Did you mean 'fusion_grid'? "
        "(A file ends in .toml.)"
    )


@pytest.mark.parametrize("name", ["../s", "..", ".", "", "sub/s", "s.toml/..", "s\n", "*"])
def test_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "s.toml").write_text(SEARCH + _OK)
    (tmp_path / "spaces" / "sub").mkdir(parents=True)
    (tmp_path / "spaces" / "sub" / "s.toml").write_text(SEARCH + _OK)
    with pytest.raises(SpaceError, match="unknown space"):
        load_space(name, tmp_path / "spaces")


def test_file_is_taken_as_it_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SEARCH + _OK)
    assert load_space(path).name == "mine"
    with pytest.raises(SpaceError, match=r"none\.toml: there is no such file$"):
        load_space(str(tmp_path / "none.toml"))
    with pytest.raises(SpaceError, match="the name of a space must be letters, digits, - and _"):
        load_space(str(tmp_path / "my space.toml"))
