"""The page's tables for use elsewhere: Markdown, LaTeX, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from study.reporting.layout import table as plain_table
from study.reporting.page.blocks import Cell, Section, Table

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def tables_of(sections: Sequence[Section]) -> list[Table]:
    """Return all tables of a page, in order."""
    return [block for section in sections for block in section.blocks if isinstance(block, Table)]


def table_files(tables: Sequence[Table]) -> dict[str, str]:
    """Return the content of every file of tables, by name.

    `tables.md`, `tables.tex` and `tables.json` hold all of them; each has a CSV of its own.
    """
    return {
        "tables.md": "\n\n".join(_markdown(table) for table in tables) + "\n",
        "tables.tex": "\n\n".join(_latex(table) for table in tables) + "\n",
        "tables.json": json.dumps({t.name: _plain(t) for t in tables}, indent=1) + "\n",
        **{f"{table.name}.csv": _csv(table) for table in tables},
    }


def _markdown(table: Table) -> str:
    cells = [[cell.text for cell in row] for row in table.rows]
    body = plain_table(table.header, cells, markdown=True)
    return f"## {table.title}\n\n{table.shows} {table.reading}\n\n{body}"


def _latex(table: Table) -> str:
    words = {0, *table.text_columns}
    columns = "".join("l" if index in words else "r" for index in range(len(table.header)))
    lines = [_latex_row(table.header), r"\midrule"]
    lines += [_latex_row([cell.text for cell in row]) for row in table.rows]
    body = "\n".join(lines)
    return (
        f"% needs \\usepackage{{booktabs}}\n\\begin{{table}}\n\\caption{{{_escaped(table.title)}. "
        f"{_escaped(table.shows)}}}\n\\label{{tab:{table.name}}}\n"
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{body}\n\\bottomrule\n"
        "\\end{tabular}\n\\end{table}"
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_escaped(cell) for cell in cells) + r" \\"


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _csv(table: Table) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.header)
    writer.writerows([_value(cell) for cell in row] for row in table.rows)
    return text.getvalue()


def _plain(table: Table) -> Mapping[str, object]:
    return {
        "title": table.title,
        "shows": table.shows,
        "reading": table.reading,
        "rows": [
            dict(zip(table.header, (_exact(cell) for cell in row), strict=True))
            for row in table.rows
        ],
    }


def _exact(cell: Cell) -> object:
    """Return value and text where the text says more than the value, as an interval does."""
    if cell.value is None:
        return cell.text
    return {"value": cell.value, "text": cell.text} if "[" in cell.text else cell.value


def _value(cell: Cell) -> object:
    return cell.text if cell.value is None or "[" in cell.text else cell.value
