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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from study.config import CHOICES, PARAMETERS
from study.errors import SpaceError, StudyError
from study.models.fusion import FUSIONS
from study.spaces.load import FOLDER, load_space, override
from study.spaces.settings import SETTINGS
from tests.fuzzing import EXAMPLES, LONGEST, written_outside

SHIPPED = [path.read_bytes() for path in sorted(FOLDER.glob("*.toml"))]

NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([2**31, 2**63, -(2**64), 10**400, 1e-300, 1e308]),
)
WORDS = st.sampled_from(
    [*FUSIONS, *(word for words in CHOICES.values() for word in words), "a_placebo", "../x"]
)
SCALARS = st.one_of(
    NUMBERS.map(repr),
    st.sampled_from(["nan", "-inf", "inf", "true", "1979-05-27", "0x" + "f" * 1500, "'''\n'''"]),
    st.one_of(WORDS, st.text(max_size=8)).map(lambda text: '"' + text.replace('"', "") + '"'),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(st.sampled_from([*PARAMETERS, "x"]), inner, max_size=3).map(
            lambda items: "{ " + ", ".join(f"{k} = {v}" for k, v in items.items()) + " }"
        ),
    ),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [*PARAMETERS, *SETTINGS, "values", "low", "high", "step", "log", "default", "when", "name"]
    + ["placebo", "reference", "contrasts", "description", "params", "arms", "fixed", "exclude"]
)
HEADS = st.one_of(
    st.sampled_from(["[search]", "[compare]", "[fixed]", "[[arms]]", "[[exclude]]", "[params]"]),
    st.sampled_from(sorted(PARAMETERS)).map(lambda name: f"[params.{name}]"),
)


@st.composite
def grammatical(draw: st.DrawFn) -> bytes:
    """Return a file of the right grammar, keys and words, in any order and of any type."""
    lines = ['description = "d"'] if draw(st.booleans()) else []
    if draw(st.booleans()):
        sampler = draw(st.sampled_from(["grid", "random", "tpe"]))
        lines += ["[search]", f'sampler = "{sampler}"', "trials = 3"]
    for _ in range(draw(st.integers(0, 6))):
        lines.append(draw(HEADS))
        for _ in range(draw(st.integers(0, 4))):
            lines.append(f"{draw(KEYS)} = {draw(VALUES)}")
    return "\n".join(lines).encode("utf-8", errors="surrogatepass")


ODD = [b"nan", b"-inf", b"1e999", b"0", b"-1", b"4096", b"true", b"9" * 4400, b"[]"]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return a shipped space with some bytes changed, put in from another one or left out."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    text = rng.choice(SHIPPED)
    for _ in range(rng.randint(1, 4)):
        at, other = rng.randrange(len(text) + 1), rng.choice(SHIPPED)
        start = rng.randrange(len(other))
        put = rng.choice(
            [b"", bytes([rng.randrange(256)]), rng.choice(ODD), other[start : start + 200]]
        )
        text = text[:at] + put + text[at + rng.randint(0, 40) :]
    return text


NEAR = ["0", "1", "2", "3", "4", "5", "8", "32", "100", "1000", "0.0", "0.1", "0.5", "1.0", "1e-4"]
QUOTED = sorted({f'"{word}"' for words in CHOICES.values() for word in words})
EDITS: list[tuple[re.Pattern[str], Callable[[str, random.Random], str]]] = [
    (re.compile(r"(?<=[ \[])[\d.]+(e-?\d+)?"), lambda _, rng: rng.choice(NEAR)),
    (re.compile(r'"\w+"'), lambda _, rng: rng.choice(QUOTED)),
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
    """Return a shipped space with a few words, numbers or lines changed for plausible ones."""
    rng = random.Random(draw(st.integers(0, 2**32)))
    text = rng.choice(SHIPPED).decode()
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
        assert space.largest_batch() >= 2
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


@settings(
    max_examples=EXAMPLES,
    deadline=LONGEST,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(content=st.one_of(edited(), edited(), mutated(), grammatical(), st.binary(max_size=60)))
def test_a_bad_space_file_ends_in_an_error_of_this_project(path: Path, content: bytes) -> None:
    with written_outside(path.parent) as files:
        through(path, content)
    assert files == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = " + "[\n" * 1000 + "]\n" * 1000, "is nested too deeply"),
        ("trials = " + "9" * 4400, "is not TOML: "),
        ("trials = 0x" + "f" * 4000, "is not TOML: "),
        (f"[search]\ntrials = 0x{'f' * 1900}", "must be a whole number in [1, 1000000], got "),
        (
            'params = 5\n[compare]\n[[arms]]\nname = "a"\nfusion = "film"',
            "params: must be a table [params], got 5",
        ),
    ],
)
def test_what_once_got_through(path: Path, text: str, fault: str) -> None:
    path.write_text(text)
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    assert fault in str(caught.value)
