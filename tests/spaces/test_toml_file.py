"""Faults of a space file: each named with file, key, what was got and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.errors import SpaceError
from study.spaces.load import load_space
from tests.builders import faults_of_space

SEARCH = """# top
description = "d"
[search]
sampler = "random"
trials = 3
[fixed]
fusion = "mhca_time"
"""
HEADS = "[params.heads]\nvalues = [1, 2]\n"

DROPOUT = "[params.dropout]\nlow = 0.0\nhigh = 0.5\n"
COMPARE = f"""
description = "d"
[compare]
draws = 2
reference = "film"
[fixed]
segmentation = "beat"
{DROPOUT}[[arms]]
name = "film"
fusion = "film"
placebo = true
[[arms]]
name = "concat"
fusion = "concat"
"""
ARMS = "concat, film, film_placebo"

LOSSES = '\n[params.loss]\nvalues = ["focal", "cross_entropy"]'

PARAM_FAULTS = [
    ("hads", "values = [1]", "unknown parameter 'hads'"),
    ("input", 'values = ["opt1", "op3"]', "unknown value 'op3'"),
    ("heads", "values = []", "values must be a list of at least one value, got []"),
    ("heads", "values = [1, 2, 1]", "values must differ, got 1 more than once"),
    ("heads", "values = [1]\nlow = 1\nhigh = 2", "needs either values = [...] or low and high"),
    ("dropout", "low = 0.0\nhgh = 0.5\nhigh = 0.5", "unknown key 'hgh'"),
    ("dropout", "low = 0.0\nhigh = 1.5", "high: must be in [0, 0.95], got 1.5"),
    ("dropout", "low = 0.0\nhigh = 0.5\nlog = true", "`low > 0` must hold with log = true"),
    ("dropout", "low = 0.0\nhigh = 0.5\nstep = 0.2", "whole steps must lead from low to high"),
    ("dropout", "low = 0.0\nhigh = 0.4\ndefault = 0.5", "default must lie in the range"),
    ("learning_rate", "low = 1e-8\nhigh = 1.0\nstep = 1e-40", "a range must have at most 1000000"),
    ("input", "low = 0\nhigh = 1", "is a word, not a number: give values = [...]"),
    ("heads", 'values = [1]\nwhen = "mhca"', "when: must be a table such as { fusion ="),
    ("heads", 'values = [1]\nwhen = { fusin = ["mhca"] }', "when: unknown parameter 'fusin'"),
    ("heads", 'values = [1]\nwhen = { loss = "focal" }' + LOSSES, "when: loss: must be a list"),
    ("heads", f"values = [1]\nwhen = {{ dropout = [0.1] }}\n{DROPOUT}", "when: dropout: is a"),
    ("heads", "values = [1]\nwhen = { heads = [1] }", "when: conditions form a circle among:"),
]


@pytest.mark.parametrize(("name", "text", "fault"), PARAM_FAULTS)
def test_fault_of_a_parameter(name: str, text: str, fault: str) -> None:
    (told,) = faults_of_space(f"{SEARCH}[params.{name}]\n{text}\n")
    assert told.startswith(f"params.{name}: {fault}")


OF_SEARCH = [
    ('"d"', '" "', "description: must be a line of text, got ' '"),
    ('"mhca_time"', '"mhca_tme"', "fixed: fusion: unknown value 'mhca_tme'"),
    ("fusion =", "fuson =", "fixed: unknown parameter 'fuson'"),
    ("fusion =", "heads = 1\nfusion =", "fixed: heads: is also in [params]; leave one of them"),
    (HEADS, "", "params: nothing to search; give at least one [params.NAME]"),
    (HEADS, f"{HEADS}[compare]", "needs exactly one of [search] and [compare], but got both"),
    (HEADS, f"{HEADS}[[arms]]", "[[arms]] means nothing in a search space"),
    (HEADS, f"{HEADS}[[exclude]]\nhead = 1", "exclude[1]: unknown searched parameter with values"),
    ("trials = 3", 'trials = 3\nfolds = "publshed"', "search.folds: must be a whole number in [2"),
]
OF_COMPARE = [
    (DROPOUT, "", "compare.draws: must be 1, as [params] has nothing to draw; got 2"),
    ('= "film"', '= "flim"', "compare.reference: unknown arm 'flim'"),
    ('reference = "film"\n', "", f"compare.reference: is missing; arms: {ARMS}"),
    ("draws = 2", 'draws = 2\ncontrasts = [["film"]]', "compare.contrasts[1]: must be a pair of"),
    ('"concat"\n', '"concat"\ndropout = 0.1\n', "arms.concat: dropout: is drawn for every arm by"),
    ("placebo = true", 'placebo = true\nrr = "placebo"', "arms.film: placebo: the arm has rr ="),
    ('name = "concat"', 'name = "film"', "arms.film: the name is used more than once"),
]


@pytest.mark.parametrize(
    ("space", "old", "new", "fault"),
    [(SEARCH + HEADS, *case) for case in OF_SEARCH] + [(COMPARE, *case) for case in OF_COMPARE],
)
def test_fault_of_a_section(space: str, old: str, new: str, fault: str) -> None:
    assert old in space
    text = space.replace(old, new, 1)
    (told,) = faults_of_space(text)
    assert told.startswith(fault)


def test_all_faults_are_told_at_once() -> None:
    text = (
        'description = "d"\n[search]\nsampler = "tpo"\ntrails = 3\n[fixed]\nepochs = "six"\n'
        '[params.heads]\nvalues = [1, 2, "four"]\n[params.dropout]\nlow = 0.5\nhigh = 0.1\n'
    )
    assert faults_of_space(text) == [
        "search.trails: unknown setting 'trails'; known: folds, objective, reduction_factor, "
        "sampler, scheduler, seeds, trials. Did you mean 'trials'?",
        "search.sampler: unknown value 'tpo'; known: gp, grid, qmc, random, tpe. "
        "Did you mean 'tpe'?",
        "search.trials: is missing",
        "fixed: epochs: must be a whole number, got 'six'",
        "params.heads: must be a whole number, got 'four'",
        "params.dropout: `low <= high` must hold, but got low=0.5 and high=0.1",
    ]
    (fault,) = faults_of_space('description = "d"')
    assert fault == "needs exactly one of [search] and [compare], but got none"


def test_file_that_is_no_toml_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "fusion_grid.toml").write_text("[search\n")
    (tmp_path / "smoke.toml").write_bytes(b"\xff\xfe")
    folder = tmp_path.name
    for name, message in (
        ("fusion_grid", f"^{folder}/fusion_grid.toml: is not TOML: .*line 1"),
        ("smoke", f"^{folder}/smoke.toml: is not UTF-8 text: invalid start byte"),
        (
            "fusion_gird",
            "^unknown space 'fusion_gird'; known: fusion_grid, smoke. Did you mean "
            r"'fusion_grid'\? \(A file ends in .toml.\)$",
        ),
        (f"{tmp_path}/none.toml", r"none\.toml: there is no such file$"),
        (f"{tmp_path}/my space.toml", "the name of a space must be letters, digits, - and _"),
        (f"{tmp_path}/a\0b/c.toml", "is no path: embedded null byte"),
    ):
        with pytest.raises(SpaceError, match=message):
            load_space(name, tmp_path)


@pytest.mark.parametrize("name", ["../s", "..", "", "sub/s", "s.toml/..", "*"])
def test_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    for path in (tmp_path / "s.toml", tmp_path / "spaces" / "sub" / "s.toml"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SEARCH + HEADS)
    with pytest.raises(SpaceError, match="unknown space"):
        load_space(name, tmp_path / "spaces")
    assert load_space(tmp_path / "s.toml").name == "s"
