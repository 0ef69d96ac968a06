"""The page in headless Chromium: no errors, sorting, and no overflow at phone width.

Chromium is taken from CHROMIUM or the PATH; `.ci/run` installs it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import pytest

from study.reporting.page.differences import matrix_cell
from study.reporting.page.html import Block, Figure, Note, Section, Tone, page_html
from study.reporting.page.svg import Panel
from study.reporting.table import Column, Kind, Table
from study.statistics.findings import Estimate

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

PHONE, TABLET = 390, 820


@pytest.fixture(scope="module")
def chromium() -> str:
    """Path of a Chromium; the test is skipped where there is none."""
    given = os.environ.get("CHROMIUM")
    found = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        pytest.skip("no Chromium on the PATH: this test opens the page in one")
    return found


@pytest.fixture
def page() -> str:
    """A page with one block of each kind, tables and names wider than a phone."""
    names = ["opt3_mhca_h1_placebo", "b", "a"]
    table = Table(
        name="wide",
        title="A wide table",
        shows="It shows.",
        reading="It reads.",
        columns=[
            Column("arm", Kind.NAME),
            Column("score"),
            *(Column(f"column {k}", Kind.COUNT) for k in range(19)),
        ],
        rows=[
            [name, value, *(1000 * k for k in range(19))]
            for name, value in zip(names, (0.5, float("nan"), 0.9), strict=True)
        ],
    )
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0), title="panel")
    panel.line([0, 1], [0, 1])
    panels = [panel.svg()] * 4
    figure = Figure(
        name="f", title="F", shows="It shows.", reading="It reads.", panels=panels, legend=["a"]
    )
    blocks: list[Block] = [table, figure, Note("x" * 60, Tone.WARNING)]
    return page_html(
        "Study with_a_rather_long_name_of_one_word",
        "below",
        [Section(anchor="one", title="One", blocks=blocks)],
    )


def opened(chromium: str, content: str, tmp_path: Path) -> str:
    """Return the document after its scripts ran; the console must be silent."""
    path = tmp_path / "page.html"
    path.write_text(content)
    done = subprocess.run(
        [
            chromium,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--v=0",
            "--virtual-time-budget=2000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    return done.stdout


def with_script(content: str, script: str) -> str:
    return content.replace("</body>", f"<script>{script}</script></body>")


def test_no_console_errors(chromium: str, page: str, tmp_path: Path) -> None:
    document = opened(chromium, page, tmp_path)
    assert 'data-errors="0"' in document
    assert 'data-ready="yes"' in document
    assert 'data-scheme="light"' in document or 'data-scheme="dark"' in document


def test_an_error_would_be_seen(chromium: str, page: str, tmp_path: Path) -> None:
    broken = with_script(page, "undefinedFunction();")
    with pytest.raises(AssertionError, match="undefinedFunction"):
        opened(chromium, broken, tmp_path)


def test_a_pair_whose_interval_leaves_out_0_is_bold(chromium: str, tmp_path: Path) -> None:
    ends = ((0.01, 0.3), (-0.1, 0.3), (-0.3, -0.01))
    cells = [
        matrix_cell(Estimate(value=sum(end), se=0.1, low=end[0], high=end[1]), 0, 0, 1.0, "")
        for end in ends
    ]
    figure = Figure(
        name="f", title="F", shows="S.", reading="R.", panels=[f"<svg>{''.join(cells)}</svg>"]
    )
    content = page_html("Study", "below", [Section(anchor="one", title="One", blocks=[figure])])
    script = """
      document.body.dataset.weights = [...document.querySelectorAll("svg text")]
        .map((cell) => getComputedStyle(cell).fontWeight).join(",");
    """
    document = opened(chromium, with_script(content, script), tmp_path)
    assert 'data-weights="700,400,700"' in document


def test_a_heading_sorts_both_ways_and_undefined_stays_last(
    chromium: str, page: str, tmp_path: Path
) -> None:
    script = """
      const head = document.querySelectorAll("th")[1];
      const order = () => [...document.querySelectorAll("tbody tr")]
        .map((row) => row.cells[0].textContent).join(",");
      head.click(); document.body.dataset.down = order();
      head.click(); document.body.dataset.up = order();
    """
    document = opened(chromium, with_script(page, script), tmp_path)
    assert 'data-down="a,opt3_mhca_h1_placebo,b"' in document
    assert 'data-up="opt3_mhca_h1_placebo,a,b"' in document


@pytest.mark.parametrize("width", [PHONE, TABLET])
def test_nothing_is_wider_than_the_screen(
    chromium: str, page: str, tmp_path: Path, width: int
) -> None:
    # A window cannot be as narrow as a phone; a frame can.
    frame = f'<iframe srcdoc="{escape(page)}" width="{width}" height="800"></iframe>'
    script = """<script>addEventListener("load", () => {
      const inside = document.querySelector("iframe").contentDocument.scrollingElement;
      document.body.dataset.widths = `${inside.scrollWidth} ${inside.clientWidth}`;
    })</script>"""
    document = opened(chromium, f"<body>{frame}{script}</body>", tmp_path)
    found = re.search(r'data-widths="(\d+) (\d+)"', document)
    assert found is not None
    assert int(found[1]) <= int(found[2])
