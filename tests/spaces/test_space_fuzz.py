"""Bad space files: whatever a file holds, a space comes out or an error of this project.

Each file goes through the loader and all that a dry run computes of a space before any training.
FUZZ_EXAMPLES sets how many are tried (docs/reliability.md).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.config import CHOICES, PARAMETERS
from study.errors import SpaceError, StudyError
from study.spaces.load import FOLDER, load_space, override
from tests.builders import refused
from tests.fuzzing import FUZZED, written_outside

SHIPPED = [path.read_text() for path in sorted(FOLDER.glob("*.toml"))]


NEAR = ["0", "1", "2", "3", "4", "5", "8", "32", "100", "1000", "0.0", "0.1", "0.5", "1.0", "1e-4"]
WRONG = ["nan", "-inf", "true", "-1", "2.5", '""', '"../x"', "[]", "[[1], {}]", "1979-05-27"]
WRONG += ["{ heads = [1] }", "9223372036854775808", "1e308", "0x" + "f" * 1500, str(10**400)]
QUOTED = sorted({f'"{word}"' for words in CHOICES.values() for word in words})
EDITS: list[tuple[re.Pattern[str], Callable[[str, random.Random], str]]] = [
    (re.compile(r"(?<=[ \[])[\d.]+(e-?\d+)?"), lambda _, rng: rng.choice(NEAR)),
    (re.compile(r'"\w+"'), lambda _, rng: rng.choice(QUOTED)),
    (re.compile(r"(?<= = ).+"), lambda _, rng: rng.choice(WRONG)),
    (re.compile(r"^\[.+\]$", re.MULTILINE), lambda head, _: f"{head.strip('[]')} = 5"),
    (re.compile(r"^\[.+\]$", re.MULTILINE), lambda head, _: f"[{head}]"),
    (re.compile(r"^\w+ = .*\n", re.MULTILINE), lambda _, rng: ""),
    (
        re.compile(r"^low = .*\nhigh = .*$", re.MULTILINE),
        lambda _, rng: f"values = [{', '.join(rng.sample(NEAR, 3))}]",
    ),
    (
        re.compile(r"^\[\[arms\]\]\n(.+\n)+", re.MULTILINE),
        lambda arm, rng: arm + arm.replace('name = "', f'name = "x{rng.randrange(9)}'),
    ),
    (
        re.compile(r"^\[params\.\w+\]", re.MULTILINE),
        lambda _, rng: f"[params.{rng.choice(sorted(PARAMETERS))}]",
    ),
]
"""What may be changed, and into what."""


@st.composite
def edited(draw: st.DrawFn) -> bytes:
    """Return a shipped space with some values or lines changed, for plausible or wrong ones."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    text = rng.choice(SHIPPED)
    for _ in range(rng.randint(1, 3)):
        pattern, makes = rng.choice(EDITS)
        places = list(pattern.finditer(text))
        if places:
            at = rng.choice(places)
            text = text[: at.start()] + makes(at[0], rng) + text[at.end() :]
    return text.encode()


def through(path: Path, content: bytes) -> None:
    """Take a file through the loader and what a dry run computes before any training."""
    path.write_bytes(content)
    try:
        space = load_space(path)
        configs = space.configurations()
        assert configs
        assert space.arm_configurations()
        assert space.cuts()
        assert space.largest("batch_size") >= 2
        assert len(space.digest) == 12
        if space.kind == "search":
            assert space.configuration(space.random(0, 0))
            assert space.configuration(space.qmc(0, 0))
        override(space, epochs=2, seeds=1)
    except StudyError as error:
        assert str(error)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("spaces") / "bad.toml"


@FUZZED
@given(content=st.one_of(edited(), edited(), edited(), st.binary(max_size=60)))
def test_a_bad_space_file_ends_in_an_error_of_this_project(path: Path, content: bytes) -> None:
    with written_outside(path.parent) as files:
        through(path, content)
    assert files == []


def test_what_once_got_through(path: Path) -> None:
    for text, fault in (
        ("a = " + "[\n" * 1000 + "]\n" * 1000, "is nested too deeply"),
        ("trials = " + "9" * 4400, "is not TOML: "),
        ("trials = 0x" + "f" * 4000, "is not TOML: "),
        (f"[search]\ntrials = 0x{'f' * 1900}", "must be a whole number in [1, 1000000], got "),
        (
            'params = 5\n[compare]\n[[arms]]\nname = "a"\nfusion = "film"',
            "params: must be a table [params], got 5",
        ),
    ):
        path.write_text(text)
        assert fault in refused(SpaceError, load_space, path)
