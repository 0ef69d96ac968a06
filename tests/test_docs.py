"""The documents against the code: keys of spaces and plans, numbers of the statistics."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from study.config import CHOICES, LIMITS, PARAMETERS, TrialConfig
from study.keys import MIN_BEATS_OF_RECORD, MIN_CLASS_BEATS
from study.sealed import plan
from study.sealed.plan_file import parse_plan
from study.spaces.load import load_space
from study.spaces.settings import SETTINGS
from study.statistics.choice import SIMPLICITY
from study.statistics.comparison import MARGIN, PERMUTATIONS, RESAMPLES
from study.statistics.estimates import FEW_IN_ONE_FOLD, MIN_EFFECTIVE_PATIENTS

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "spaces.md").read_text()


def rows(heading: str, reference: str = REFERENCE) -> dict[str, list[str]]:
    """Return the cells of a section's table by the key in the first."""
    section = reference.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def test_every_parameter_with_its_default_and_what_is_allowed() -> None:
    listed = rows("Parameters")
    assert set(listed) == set(PARAMETERS)
    defaults = TrialConfig().flat()
    for name, (default, allowed, _) in listed.items():
        assert default.strip("`") == str(defaults[name]), name
        if name in CHOICES:
            assert re.findall(r"`([^`]+)`", allowed) == list(CHOICES[name]), name
        elif name in LIMITS:
            assert [float(bound) for bound in allowed.split(" to ")] == list(LIMITS[name]), name


def test_every_setting_with_its_default() -> None:
    listed = rows("Settings")
    assert set(listed) == {*SETTINGS, "reference", "contrasts"}
    for name, setting in SETTINGS.items():
        of, default, _ = listed[name]
        assert of in (setting.kinds[0] if len(setting.kinds) == 1 else "both", of)
        expected = "required" if setting.default is None else str(setting.default)
        assert default.strip("`").startswith(expected), name


def test_the_statistics_are_those_of_the_code() -> None:
    text = " ".join((ROOT / "docs" / "statistics.md").read_text().split())
    for said in (
        f"percentile intervals over {RESAMPLES:,} resamples",
        f"{PERMUTATIONS:,} times",
        f"Below {MIN_EFFECTIVE_PATIENTS:.0f} a class is **not estimable**",
        f"with at least {MIN_CLASS_BEATS} beats of it",
        f"those with at least {MIN_BEATS_OF_RECORD} beats of the class",
        f"in an order declared before any result: {', '.join(SIMPLICITY)};",
        f"below {FEW_IN_ONE_FOLD} effective patients",
        "is above -" + f"{MARGIN}".removeprefix("0"),
    ):
        assert said in text, said


def test_the_example_is_a_space(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(description.*?)```", REFERENCE, re.DOTALL)
    assert example is not None
    path = tmp_path / "example.toml"
    path.write_text(example[1])
    space = load_space(path)
    names = {param.name for param in space.params}
    assert names == {"fusion", "embed_dim", "learning_rate", "heads"}


SEALED = (ROOT / "docs" / "evaluation.md").read_text()


def test_every_setting_of_a_plan_with_its_default() -> None:
    listed = rows("The plan", SEALED)
    assert set(listed) == set(plan.SETTINGS)
    for name, (default, _) in listed.items():
        assert default.strip("`") == json.dumps(plan.SETTINGS[name]).strip('"'), name


def test_the_example_is_a_plan() -> None:
    example = re.search(r"```toml\n(name.*?)```", SEALED, re.DOTALL)
    assert example is not None
    found = parse_plan(tomllib.loads(example[1]), "the example")
    assert [arm.name for arm in found.arms] == ["film", "film_placebo"]
    assert found.origin is not None and list(found.origin.data) == ["beat/antialiased"]
