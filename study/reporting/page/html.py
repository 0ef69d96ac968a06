"""The page's building blocks, and its HTML: one file that needs no other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape
from importlib.resources import files

from study.reporting.table import Table

_STYLE, _SCRIPT = "page.css", "page.js"


class Tone(StrEnum):
    """The tone of a note."""

    PLAIN = "plain"
    MISSING = "missing"
    """Something is missing; the text says why."""
    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"
    GOOD = "good"


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph of plain text."""

    text: str
    tone: Tone = Tone.PLAIN

    def html(self) -> str:
        """Return the paragraph; lines stay lines."""
        lines = "<br>".join(escape(line) for line in self.text.splitlines())
        return f'<p class="note t-{self.tone}">{lines}</p>'


Answer = tuple[str, str, str]
"""A question, its answer, and a remark on it."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Short answers: a question, its answer in large type, and a remark."""

    items: Sequence[Answer]

    def html(self) -> str:
        """Return the answers side by side."""
        items = "".join(
            f'<div class="fact"><dt>{escape(question)}</dt><dd><b>{_unbroken(answer)}</b>'
            f"<span>{escape(remark)}</span></dd></div>"
            for question, answer, remark in self.items
        )
        return f'<dl class="facts of-{len(self.items)}">{items}</dl>'


def _unbroken(text: str) -> str:
    """Return a text in which no option of a command is broken after its dashes."""
    return re.sub(r"--\S+", r"<code>\g<0></code>", escape(text))


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Panels with a sentence on their content and one on how to read them."""

    name: str  # anchor, such as `forest`
    title: str  # its heading
    shows: str  # what it shows
    reading: str  # how to read it
    panels: Sequence[str]  # SVG elements, side by side where the page is wide enough
    # Names of the series, in the order of their colours; an empty one is left out
    legend: Sequence[str] = ()
    wide: bool = False  # whether its one panel keeps its size, and scrolls on a narrow page

    def html(self) -> str:
        """Return the figure with its legend and its sentences."""
        legend = "".join(
            f'<li><svg viewBox="0 0 26 10" aria-hidden="true"><path class="line s{index}" '
            f'd="M0 5H26"/></svg>{escape(name)}</li>'
            for index, name in enumerate(self.legend)
            if name
        )
        kind = "panels wide" if self.wide else f"panels of-{len(self.panels)}"
        return (
            f'<figure id="figure-{escape(self.name)}"><h3>{escape(self.title)}</h3>'
            f'<p class="says">{escape(self.shows)}</p>'
            + (f'<ul class="legend">{legend}</ul>' if legend else "")
            + f'<div class="{kind}">{"".join(self.panels)}</div>'
            f"<figcaption>{escape(self.reading)}</figcaption></figure>"
        )


Block = Table | Figure | Note | Answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page: blocks under a heading that is the target of a link."""

    anchor: str
    title: str
    blocks: Sequence[Block]
    folded: bool = False  # whether a click on the heading opens it

    def html(self) -> str:
        """Return the section."""
        blocks = "\n".join(block.html() for block in self.blocks)
        anchor, title = escape(self.anchor), escape(self.title)
        inner = f"<h2>{title}</h2>\n{blocks}"
        if self.folded:
            inner = f"<details>\n<summary><h2>{title}</h2></summary>\n{blocks}\n</details>"
        return f'<section id="{anchor}">\n{inner}\n</section>'


def missing(absent: str, reason: str) -> Note:
    """Return a note that something is missing, and why."""
    return Note(f"{absent}: {reason}", Tone.MISSING)


def is_missing(block: Block) -> bool:
    """Whether a block only says that something is missing."""
    return isinstance(block, Note) and block.tone is Tone.MISSING


def page_html(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page: sections in order, the first on the first screen."""
    here = files("study.reporting.page")
    style, script = ((here / name).read_text(encoding="utf-8") for name in (_STYLE, _SCRIPT))
    links = "".join(
        f'<a href="#{escape(section.anchor)}">{escape(section.title)}</a>' for section in sections
    )
    body = "\n".join(section.html() for section in sections)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><div><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></div>
<button type="button" id="scheme" aria-label="switch between light and dark">light / dark</button>
</header>
<nav aria-label="sections">{links}</nav>
<main>
{body}
</main>
<script>
{script}</script>
</body>
</html>
"""
