"""Spaces: what is drawn by index, what an option changes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from study.errors import ConfigError, UsageError
from study.models import rules
from study.spaces.draws import Point
from study.spaces.load import SpaceSummary, list_spaces, override
from tests.builders import MIXED, checked_space_of, refused, space_of

SMALL = MIXED.replace("low = 1e-4, high = 1e-2, log = true", "values = [1e-3, 2e-3]")

COMPARE = """
description = "three arms"
fixed = { segmentation = "beat", epochs = 4 }
arms = [
    { name = "film", fusion = "film", placebo = true },
    { name = "ecg", input = "ecg", fusion = "none", epochs = 5 },
]
params.learning_rate = { low = 1e-4, high = 1e-2, log = true }
params.dropout = { low = 0.0, high = 0.5, when = { fusion = ["film"] } }
[compare]
draws = 3
seeds = 2
reference = "film"
contrasts = [["film", "film_placebo"], ["film", "ecg"]]
"""


def test_points_by_index_differ_and_fill_the_space() -> None:
    space = space_of(MIXED)
    for draw in (space.random, space.qmc):
        rates = [draw(3, index)["learning_rate"] for index in range(64)]
        assert len(set(rates)) == 64
        assert draw(4, 0) != draw(3, 0)
        assert draw(3, 7)["learning_rate"] == rates[7], "an index has no memory"
    # A Sobol sequence puts one of 64 points into each of 64 slices of equal share.
    shares = [(math.log10(float(space.qmc(3, i)["learning_rate"])) + 4) / 2 for i in range(64)]
    assert sorted(int(64 * share) for share in shares) == list(range(64))


def test_grid_is_in_a_stable_order() -> None:
    space = space_of(SMALL)
    # `fusion`, the condition of `heads`, comes first though the file has it second.
    assert [param.name for param in space.params][:2] == ["fusion", "heads"]
    cells = list(space.grid())
    # (1 film + 2 x 2 attention) x 3 widths x 3 dropouts x 2 rates x (1 + 3 losses)
    assert space.grid_size() == len(cells) == 5 * 3 * 3 * 2 * 4
    assert len({rules.digest(space.configuration(cell)) for cell in cells}) == len(cells)
    assert cells[0] == {
        "fusion": "film",
        "embed_dim": 16,
        "dropout": 0.1,
        "learning_rate": 1e-3,
        "loss": "cross_entropy",
    }
    assert cells[1] == {**cells[0], "loss": "focal", "focal_gamma": 1.0}
    assert space_of(MIXED).grid_size() is None


_POINT: Point = {
    "fusion": "mhca",
    "heads": 1,
    "embed_dim": 32,
    "dropout": 0.3,
    "learning_rate": 1e-3,
    "loss": "cross_entropy",
}


def test_defaults_are_a_point_of_each_arm_and_branches_of_each_combination_of_conditions() -> None:
    space = space_of(MIXED)
    points = space.defaults()
    assert [point["fusion"] for point in points] == ["film", "mhca", "mhca_time"]
    assert len({rules.arm(space.configuration(point)) for point in points}) == 3
    assert points[1] == {**_POINT, "learning_rate": pytest.approx(1e-3)}
    branches = {(point["fusion"], point["loss"]) for point in space.branches()}
    losses = ("cross_entropy", "focal")
    assert len(space.branches()) == 6
    assert branches == {(f, loss) for f in ("film", "mhca", "mhca_time") for loss in losses}


OUTSIDE: list[tuple[dict[str, object], str]] = [
    ({"heads": 3, "dropout": 0.2}, "heads: 3 is outside of .*\n  - dropout: 0.2 is outside of"),
    ({"heads": None}, "space s: heads: is missing"),
    ({"focal_gamma": 1.0}, "space s: focal_gamma: does not exist here: its condition does not"),
    ({"hads": 1}, "space s: unknown parameter 'hads'; known: dropout, embed_dim, focal_gamma"),
]


@pytest.mark.parametrize(("changes", "fault"), OUTSIDE)
def test_point_outside_is_refused(changes: dict[str, object], fault: str) -> None:
    point = {name: v for name, v in {**_POINT, **changes}.items() if v is not None}
    with pytest.raises(ConfigError, match=fault):
        space_of(MIXED).configuration(point)


def test_digests_are_those_of_what_is_run() -> None:
    space = space_of(MIXED)
    exact, near = (space.configuration({**_POINT, "dropout": d}) for d in (0.3, 0.1 + 0.2))
    assert 0.1 + 0.2 != 0.3 and rules.digest(exact) == rules.digest(near)
    assert space_of("# a comment\n" + MIXED.replace("every kind", "all")).digest == space.digest
    for old, new in (('"tpe"', '"random"'), ("0.5", "0.7"), ('"beat"', '"daeac"')):
        assert old in MIXED
        assert space_of(MIXED.replace(old, new, 1)).digest != space.digest
    assert override(space, epochs=2).digest != space.digest
    # A resume may ask for more trials: they are the same study.
    assert override(space, epochs=None, trials=13).digest == space.digest


def test_comparison_gives_every_arm_the_same_draws() -> None:
    space = space_of(COMPARE)
    points = space.comparisons()
    assert [(point.draw, point.arm) for point in points] == [
        (draw, arm) for draw in range(3) for arm in ("film", "film_placebo", "ecg")
    ]
    assert space.n_trials == len(points) == 9
    for first, placebo, ecg in zip(points[::3], points[1::3], points[2::3], strict=True):
        assert first.params == placebo.params
        assert ecg.params == {"learning_rate": first.params["learning_rate"]}
        assert (first.config.signal.rr, placebo.config.signal.rr) == ("real", "placebo")
        assert (first.config.train.epochs, ecg.config.train.epochs) == (4, 5)
    assert len({point.params["learning_rate"] for point in points}) == 3
    longer = space_of(COMPARE.replace("draws = 3", "draws = 5"))
    assert longer.comparisons()[:9] == points, "draws are continued where more are asked for"


def test_override_changes_settings() -> None:
    settings_: dict[str, int | str] = {"trials": 3, "sampler": "qmc", "scheduler": "none"}
    settings_ |= {"folds": "published", "seeds": 2}
    space = override(space_of(MIXED), **settings_, epochs=1)
    assert {name: getattr(space, name) for name in settings_} == settings_
    assert space.configuration(space.qmc(0, 0)).train.epochs == 1
    assert override(space_of(MIXED), trials=None, sampler=None) == space_of(MIXED)
    assert override(space_of(SMALL), sampler="grid").trials == 360, "every cell is run"
    assert override(space_of(SMALL), sampler="grid", trials=7).trials == 7
    # A study's folder keeps the text: it must give the same space again.
    again = checked_space_of(space.text)
    assert (again.digest, again.trials, space.text != MIXED) == (space.digest, 3, True)
    assert override(space_of(MIXED), seeds=1).text == MIXED, "nothing is changed"


def test_override_is_checked() -> None:
    assert refused(UsageError, override, space_of(MIXED), sampler="tp", trials=0) == (
        "space s: 2 faults\n"
        "  - sampler: unknown value 'tp'; known: gp, grid, qmc, random, tpe. Did you mean 'tpe'?\n"
        "  - trials: must be a whole number in [1, 1000000], got 0"
    )
    with pytest.raises(UsageError, match="trials: means nothing in a compare space; settings "):
        override(space_of(COMPARE), trials=5)


def test_list_shows_what_cannot_be_used_as_well(tmp_path: Path) -> None:
    for name, text in (("a", COMPARE), ("b", "x = 1"), ("c", MIXED)):
        (tmp_path / f"{name}.toml").write_text(text)
    first, broken, last = list_spaces(tmp_path)
    assert first == SpaceSummary("a", "compare", "three arms", 9)
    assert last == SpaceSummary("c", "search", "every kind of parameter", 12)
    assert broken.fault.startswith(f"{tmp_path.name}/b.toml: ")
