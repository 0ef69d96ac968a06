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
from typing import Any

import pytest

from study.reporting.page.differences import matrix_cell
from study.reporting.page.html import Block, Figure, Note, Section, Tone, page_html
from study.reporting.page.svg import Panel
from study.reporting.table import Column, Kind, Table
from study.statistics.findings import Estimate

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

OPTIONS = "--headless=new --no-sandbox --disable-gpu --enable-logging=stderr --v=0".split()
OPTIONS += ["--virtual-time-budget=2000", "--dump-dom"]

WIDTHS = (390, 820)
"""Of a phone and of a tablet."""

CELL_ENDS = ((0.01, 0.3), (-0.1, 0.3), (-0.3, -0.01))
"""Intervals of three pairs; the second includes 0."""


@pytest.fixture(scope="module")
def chromium() -> str:
    given = os.environ.get("CHROMIUM")
    path = given or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not path:
        pytest.skip("no Chromium on the PATH: this test opens the page in one")
    return path


@pytest.fixture(scope="module")
def page() -> str:
    """A page with one block of each kind, tables and names wider than a phone."""
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
            for name, value in (("opt3_mhca_h1_placebo", 0.5), ("b", float("nan")), ("a", 0.9))
        ],
    )
    panel = Panel(x=(0.0, 1.0), y=(0.0, 1.0), title="panel")
    panel.line([0, 1], [0, 1])
    cells = [
        matrix_cell(Estimate(value=sum(ends), se=0.1, low=ends[0], high=ends[1]), 0, 0, 1.0, "")
        for ends in CELL_ENDS
    ]
    words: dict[str, Any] = {"shows": "It shows.", "reading": "It reads."}
    blocks: list[Block] = [
        table,
        Figure(name="f", title="F", panels=[panel.svg()] * 4, legend=["a"], **words),
        Figure(name="pairs", title="P", panels=[f"<svg>{''.join(cells)}</svg>"], **words),
        Note("x" * 60, Tone.WARNING),
    ]
    title = "Study with_a_rather_long_name_of_one_word"
    return page_html(title, "below", [Section(anchor="one", title="One", blocks=blocks)])


def opened(chromium: str, content: str, folder: Path) -> str:
    """Return the document after its scripts ran; the console must be silent."""
    path = folder / "page.html"
    path.write_text(content)
    words = [chromium, f"--user-data-dir={folder / 'profile'}", *OPTIONS, path.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert console == []
    return done.stdout


def with_script(content: str, script: str) -> str:
    return content.replace("</body>", f"<script>{script}</script></body>")


def test_the_page_sorts_and_shows_pairs_bold(chromium: str, page: str, tmp_path: Path) -> None:
    script = """
      const head = document.querySelectorAll("th")[1];
      const order = () => [...document.querySelectorAll("tbody tr")]
        .map((row) => row.cells[0].textContent).join(",");
      head.click(); document.body.dataset.down = order();
      head.click(); document.body.dataset.up = order();
      document.body.dataset.weights = [...document.querySelectorAll("#figure-pairs .panels text")]
        .map((cell) => getComputedStyle(cell).fontWeight).join(",");
    """
    document = opened(chromium, with_script(page, script), tmp_path)
    for state in (
        'data-errors="0"',
        'data-ready="yes"',
        # What is undefined stays last both ways.
        'data-down="a,opt3_mhca_h1_placebo,b"',
        'data-up="opt3_mhca_h1_placebo,a,b"',
        'data-weights="700,400,700"',
    ):
        assert state in document, state
    assert 'data-scheme="light"' in document or 'data-scheme="dark"' in document


def test_nothing_is_wider_than_the_screen(chromium: str, page: str, tmp_path: Path) -> None:
    # A window cannot be as narrow as a phone; a frame can.
    frames = [
        f'<iframe srcdoc="{escape(page)}" width="{width}" height="800"></iframe>'
        for width in WIDTHS
    ]
    script = """<script>addEventListener("load", () => {
      document.body.dataset.widths = [...document.querySelectorAll("iframe")]
        .map((frame) => frame.contentDocument.scrollingElement)
        .map((inside) => `${inside.scrollWidth} ${inside.clientWidth}`).join(",");
    })</script>"""
    document = opened(chromium, f"<body>{''.join(frames)}{script}</body>", tmp_path)
    (widths,) = re.findall(r'data-widths="([\d ,]+)"', document)
    pairs = [tuple(map(int, pair.split())) for pair in widths.split(",")]
    assert len(pairs) == len(WIDTHS)
    for (whole, shown), width in zip(pairs, WIDTHS, strict=True):
        assert whole <= shown <= width
