"""Sections as one HTML file that needs nothing else: style, script and figures are inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

from study.reporting.page.blocks import Block, Facts, Figure, Note, Section, Table

_STYLE, _SCRIPT = "page.css", "page.js"


def page_html(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page.

    Args:
        title: Of the page.
        subtitle: A line below it.
        sections: In order; the first is what a reader in a hurry sees.
    """
    here = files("study.reporting.page")
    style, script = ((here / name).read_text(encoding="utf-8") for name in (_STYLE, _SCRIPT))
    links = "".join(
        f'<a href="#{escape(section.anchor)}">{escape(section.title)}</a>' for section in sections
    )
    body = "\n".join(_section(section) for section in sections)
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


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    anchor, title = escape(section.anchor), escape(section.title)
    return f'<section id="{anchor}">\n<h2>{title}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figure):
        return _figure(block)
    if isinstance(block, Facts):
        return _facts(block)
    return _note(block)


def _note(note: Note) -> str:
    lines = "<br>".join(escape(line) for line in note.text.splitlines())
    return f'<p class="note t-{note.tone}">{lines}</p>'


def _facts(facts: Facts) -> str:
    items = "".join(
        f'<div class="fact"><dt>{escape(label)}</dt><dd><b>{escape(value)}</b>'
        f"<span>{escape(remark)}</span></dd></div>"
        for label, value, remark in facts.items
    )
    return f'<dl class="facts">{items}</dl>'


def _table(table: Table) -> str:
    words = {0, *table.text_columns}
    head = "".join(
        f'<th scope="col"{_kind(index in words)} tabindex="0" role="button">{escape(name)}</th>'
        for index, name in enumerate(table.header)
    )
    body = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_kind(index in words)}{_key(cell.value)}>{_broken(cell.text)}</td>"
            for index, cell in enumerate(row)
        )
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<h3>{escape(table.title)}</h3>\n<p class="says">{escape(table.shows)} '
        f"{escape(table.reading)}</p>\n"
        f'<div class="scroll" tabindex="0"><table id="table-{escape(table.name)}">'
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _broken(text: str) -> str:
    """Let a name be broken after its underscores where a column is narrow."""
    return escape(text).replace("_", "_<wbr>")


def _kind(is_text: bool) -> str:
    return ' class="text"' if is_text else ""


def _key(value: float | int | None) -> str:
    return "" if value is None else f' data-key="{value:.6g}"'


def _figure(figure: Figure) -> str:
    legend = "".join(
        f'<li><svg viewBox="0 0 26 10" aria-hidden="true"><path class="line s{index}" '
        f'd="M0 5H26"/></svg>{escape(name)}</li>'
        for index, name in enumerate(figure.legend)
        if name
    )
    kind = "panels wide" if figure.wide else f"panels of-{len(figure.panels)}"
    return (
        f'<figure id="figure-{escape(figure.name)}"><h3>{escape(figure.title)}</h3>'
        f'<p class="says">{escape(figure.shows)}</p>'
        + (f'<ul class="legend">{legend}</ul>' if legend else "")
        + f'<div class="{kind}">{"".join(figure.panels)}</div>'
        f"<figcaption>{escape(figure.reading)}</figcaption></figure>"
    )
