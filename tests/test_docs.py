"""The documents against the code and the tables: links, names, keys, figures, the tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from study.config import CHOICES, LIMITS, PARAMETERS, TrialConfig
from study.keys import MIN_BEATS_OF_RECORD, MIN_CLASS_BEATS, MIN_EFFECTIVE_PATIENTS
from study.reporting.comparison_tables import WHAT_P_IS_ABOUT
from study.sealed.plan import parse_plan
from study.spaces.sealed_plan import DEFAULTS, MIN_SEEDS
from study.spaces.settings import SETTINGS
from study.statistics.choice import SIMPLICITY
from study.statistics.comparison import MARGIN, PERMUTATIONS, RESAMPLES
from study.statistics.estimates import FEW_IN_ONE_FOLD
from tests.builders import load_text

ROOT = Path(__file__).parents[1]
REFERENCE = (ROOT / "docs" / "spaces.md").read_text()
SEALED = (ROOT / "docs" / "evaluation.md").read_text()


def rows(heading: str, reference: str = REFERENCE) -> dict[str, list[str]]:
    """Return the cells of a section's table by the key in the first."""
    section = reference.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.strip("`"): rest for first, *rest in cells}


def example_in(reference: str) -> str:
    (example,) = re.findall(r"```toml\n(description.*?)```", reference, re.DOTALL)
    return str(example)


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
        f"Below {MIN_EFFECTIVE_PATIENTS:g} a class is **not estimable**",
        f"with at least {MIN_CLASS_BEATS} beats of it",
        f"those with at least {MIN_BEATS_OF_RECORD} beats of the class",
        f"in an order declared before any result: {', '.join(SIMPLICITY)};",
        f"below {FEW_IN_ONE_FOLD} effective patients",
        "is above -" + f"{MARGIN}".removeprefix("0"),
    ):
        assert said in text, said


def test_the_examples_are_a_space_and_a_plan(tmp_path: Path) -> None:
    space = load_text(tmp_path, example_in(REFERENCE))
    names = {param.name for param in space.params}
    assert names == {"fusion", "embed_dim", "learning_rate", "heads"}
    plan = parse_plan(example_in(SEALED), Path("the example"))
    by_records = {of: [arm.name for arm in arms] for of, arms in plan.developments.items()}
    assert by_records == {"mitdb": ["film", "film_placebo"], "mitdb+svdb": ["film_on_mitdb_svdb"]}
    origin = plan.test.origin
    assert origin is not None and list(origin.data) == ["beat/antialiased"]


def test_every_setting_of_a_plan_with_its_default() -> None:
    listed = rows("The plan", SEALED)
    assert set(listed) == {"seeds", *DEFAULTS}
    for name, (default, _) in listed.items():
        expected = {"seeds": MIN_SEEDS, **DEFAULTS}[name]
        assert default.strip("`") == json.dumps(expected).strip('"'), name


PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks/README.md")

TEXTS = [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES]

OTHER_TOOLS = {"--allowed-hosts", "--env-manager", "--signal"}
"""Options of other programs that the pages name by themselves."""


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", TEXTS)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        if path.startswith(("http:", "https:")):
            continue
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    text = page.read_text()
    paths = r"(?<![\w/.])((?:study|tests|benchmarks|deploy|search_spaces|docs)/[\w./-]*\w)"
    for path in re.findall(paths, text):
        assert (ROOT / path).exists(), path
    for module in re.findall(r"(?:-m |`(?=\w+\.\w+\.))((?:study|benchmarks)(?:\.\w+)+)", text):
        file = ROOT / module.replace(".", "/")
        assert file.is_dir() or file.with_suffix(".py").exists(), module
    for space in re.findall(r"--space (\w+)(?!\w|\.toml|/)", text):
        assert (ROOT / "search_spaces" / f"{space}.toml").exists(), space


def test_the_messages_that_are_explained_exist() -> None:
    page = (ROOT / "docs" / "install.md").read_text()
    messages = rows("Messages, and what helps", page)
    source = "".join(path.read_text() for path in (ROOT / "study").rglob("*.py"))
    assert len(messages) == 10
    assert [words for words in messages if words not in source] == []


def options_in(*folders: str) -> set[str]:
    """Return the options that command lines of these folders have."""
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    options = r'"(--[a-z0-9-]+)"'
    return {option for path in files for option in re.findall(options, path.read_text())}


@pytest.mark.parametrize("page", TEXTS)
def test_options_that_are_named_exist(page: Path) -> None:
    known = options_in("study", "benchmarks") | OTHER_TOOLS
    text = page.read_text()
    code = re.findall(r"`(--[a-z][^`]*)`", text)
    code += re.findall(r"-m (?:study|benchmarks)\.\w+[^`\n#|]*", text)
    named = {option for words in code for option in re.findall(r"(?<!\S)--[a-z0-9-]+", words)}
    assert named - known == set()


def test_the_tree_lists_the_folders_and_modules_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = {
        folder: modules.split(", ")
        for folder, modules in re.findall(
            r"^\| `(study/[a-z_/]*)` \| [^|]* \| ([^|]*) \|$", page, re.M
        )
    }
    files = [path for path in (ROOT / "study").rglob("*.py") if path.name != "__init__.py"]
    there: dict[str, list[str]] = {}
    for path in sorted(files):
        there.setdefault(f"{path.parent.relative_to(ROOT)}/", []).append(path.stem)
    assert listed == there
    for folder in re.findall(r"^\| `(\w+/)` \|", page, re.M):
        assert (ROOT / folder).is_dir(), folder


def test_the_readme_is_short_and_shows_the_page_first() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.encode()) < 12 * 1024
    assert readme.index("docs/page.png") < readme.index("## Two commands")
    assert WHAT_P_IS_ABOUT in " ".join(readme.split())
