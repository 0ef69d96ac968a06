"""Writes docs/results.md and the answer in README.md with the figures of the stored tables.

  python -m benchmarks.results_page [--check]

Their sentences are in docs/results: results.md.template and answer.md.template. A score there is
a reference in double braces, and this script puts the stored figure in its place. So a table that
changes also changes the sentence.

  {{arms: film: AUPRC S}}           what the table `arms` says of film in the column AUPRC S
  {{arms: film: AUPRC S: whole}}    the same with its interval
  {{contrasts: film - concat_proj: AUPRC S: size}}   without its sign
  {{rank correlation}}              a figure that is computed from tables; see `COMPUTED`
  {{table: arms}}                   the whole table
  {{table: arms: AUPRC S; AUPRC V}} the table with these columns

`TABLES` says where each table is stored. Each is as a command of the study wrote it.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from operator import itemgetter
from pathlib import Path

from scipy.stats import spearmanr

from study.config import PLACEBO_SUFFIX
from study.keys import FLOORS
from study.statistics.comparison import MARGIN
from study.statistics.findings import LEVEL

RESULTS = Path(__file__).parents[1] / "docs" / "results"

PAGE, README = RESULTS.parent / "results.md", RESULTS.parents[1] / "README.md"

ANSWER = ("## The answer so far\n\n", "\n[docs/results.md]")
"""Text before and after the answer in README.md."""

_COMPARISON, _GRID = "fusion_compare/comparison.md", "fusion_grid/tables.md"
_PUBLISHED, _SEALED = "published_arms/tables.md", "fusion_compare_test/tables.txt"
_SHOWN = "representation/tables.md"
_HUNDRED, _SECOND = "fusion_compare_100/tables.md", "second_test/tables.txt"

TABLES = {
    "arms": (_COMPARISON, "Arms by AUPRC S+V"),
    "contrasts": (_COMPARISON, "Declared contrasts"),
    "floors": ("fusion_compare/floors.md", "## Floors"),
    "shown": (_SHOWN, "## Arms by score"),
    "shown contrasts": (_SHOWN, "## Declared contrasts"),
    "without a window": ("../../benchmarks/README.md", "### Without a window"),
    "recipes": ("../../benchmarks/README.md", "## Recipes against memorising"),
    "hundred arms": (_HUNDRED, "## Arms by score"),
    "hundred databases": (_HUNDRED, "## Arms by database"),
    "hundred floors": (_HUNDRED, "## Do arms beat the floor"),
    "hundred contrasts": (_HUNDRED, "## Declared contrasts"),
    "classes": (_COMPARISON, "What each class rests"),
    "kept": (_COMPARISON, "Is the performance of ECG alone kept?"),
    "published arms": (_PUBLISHED, "## Arms by score"),
    "published contrasts": (_PUBLISHED, "## Declared contrasts"),
    "published reliance": (_PUBLISHED, "## RR reliance by arm"),
    "candidates": (_GRID, "## Candidates by arm"),
    "best": (_GRID, "## Best configuration of each arm"),
    "reliance": (_GRID, "## RR reliance by arm"),
    "literature": (_GRID, "## Published results on DS2"),
    "sealed classes": (_SEALED, "What DS2 has of each class"),
    "sealed arms": (_SEALED, "AUPRC on DS2"),
    "sealed auroc": (_SEALED, "AUROC on DS2"),
    "sealed contrasts": (_SEALED, "AUPRC V by 10,000 swaps"),
    "sealed decisions": (_SEALED, "Decisions at the most probable class"),
    "sealed thresholds": (_SEALED, "Decisions at thresholds"),
    "second arms": (_SECOND, "AUPRC on DS2"),
    "second auroc": (_SECOND, "AUROC on DS2"),
    "second contrasts": (_SECOND, "\nV by 10,000 swaps"),
    "to svdb": ("transfer/from_mitdb.txt", "AUPRC on svdb"),
    "svdb ensembles": ("transfer/from_mitdb.txt", "AUPRC of the seed ensembles"),
    "to DS1": ("transfer/from_svdb.txt", "AUPRC on DS1"),
    "svdb contrasts": ("transfer/from_mitdb.txt", "Contrasts in AUPRC"),
}
"""File of each table in docs/results, and words above it."""

_RR_ONLY = "rr_only - its placebo"

_FLOORS = {"chance", *FLOORS, *(name.replace("_", " ") for name in FLOORS)}
"""Rows of the tables of arms that are no network."""


@dataclass(frozen=True, slots=True)
class Table:
    """A stored table."""

    corner: str  # heading of the first column
    rows: dict[str, dict[str, str]]  # cells by the first of their row, then by their column's head

    def markdown(self, heads: Sequence[str] = ()) -> str:
        """Return it in Markdown, figures to the right: all columns, or those with these heads.

        An arm that has no figure there, as its trial did not finish, is left out.
        """
        heads = heads or list(next(iter(self.rows.values())))
        lines = [[self.corner, *heads], ["---", *["---:"] * len(heads)]]
        rows = {first: [cells[head] for head in heads] for first, cells in self.rows.items()}
        lines += [[first, *cells] for first, cells in rows.items() if {*cells} - {"-", ""}]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)


class FigureError(ValueError):
    """A reference to a figure that no table has."""


def table(name: str) -> Table:
    """Return a stored table.

    Raises:
        FigureError: If there is no such table, or its file is missing.
    """
    if name not in TABLES:
        raise FigureError(f"no table '{name}'; tables: {', '.join(TABLES)}")
    file, words = TABLES[name]
    if not (RESULTS / file).exists():
        raise FigureError(f"{RESULTS / file} is missing")
    return parsed((RESULTS / file).read_text(), words)


def parsed(text: str, words: str) -> Table:
    """Return the first table below some words: Markdown, or columns over dashes.

    Raises:
        FigureError: If the words are missing or no table follows them.
    """
    lines = text.partition(words)[2].splitlines()
    rule = next(
        (i for i, line in enumerate(lines) if set(line) <= set("|-: ") and "--" in line), 0
    )
    if not rule:
        raise FigureError(f"no table below '{words}'")
    ends = [match.span() for match in re.finditer(r"[-:]+", lines[rule])]

    def cells(line: str) -> list[str]:
        # Columns of plain text are as wide as their dashes; Markdown's may be wider.
        if "|" in lines[rule]:
            return [cell.strip() for cell in line.strip().strip("|").split("|")]
        return [line[start:stop].strip() for start, stop in ends]

    corner, *heads = cells(lines[rule - 1])
    rows = {}
    for line in takewhile(str.strip, lines[rule + 1 :]):
        first, *rest = cells(line)
        rows[first] = dict(zip(heads, rest, strict=True))
    return Table(corner, rows)


def cell(name: str, row: str, column: str, *, whole: bool = False) -> str:
    """Return what a table says of a row in a column: the figure, or with its interval.

    Raises:
        FigureError: If the table has no such row or column.
    """
    rows = table(name).rows
    if row not in rows:
        raise FigureError(f"table '{name}' has no row '{row}'; rows: {', '.join(rows)}")
    if not rows[row].get(column):
        columns = ", ".join(head for head, text in rows[row].items() if text)
        raise FigureError(f"row '{row}' of '{name}' has no '{column}'; it has: {columns}")
    return rows[row][column] if whole else rows[row][column].split()[0]


def numbers(name: str, column: str, rows: Iterable[str]) -> list[float]:
    """Return the figures of rows in a column."""
    return [float(cell(name, row, column)) for row in rows]


def networks(name: str, column: str) -> list[float]:
    """Return the figures of all arms that are networks."""
    return numbers(name, column, [row for row in table(name).rows if row not in _FLOORS])


def noted(file: str, pattern: str) -> str:
    """Return a figure from a sentence of a stored file.

    Raises:
        FigureError: If no sentence has it.
    """
    text = " ".join((RESULTS / file).read_text().split())
    match = re.search(pattern, text)
    if match is None:
        raise FigureError(f"{file} has no '{pattern}'")
    return match[1]


def score(value: float) -> str:
    """Write a score as tables do: `.519`."""
    return f"{value:.3f}".replace("0.", ".", 1)


def rises() -> list[float]:
    """Return what arms gain over their placebo where adjusted p is below .05, least first."""
    rows = [row for row in table("contrasts").rows if row.endswith("its placebo")]
    shown = [row for row in rows if p_value(cell("contrasts", row, "adjusted")) < LEVEL]
    return sorted(numbers("contrasts", "AUPRC S+V", shown))


def gains() -> list[float]:
    """Return what fusions gain over their placebo on 100 patients, least first."""
    rows = [row for row in table("hundred contrasts").rows if row.endswith("its placebo")]
    return sorted(numbers("hundred contrasts", "AUPRC S+V [95 %]", set(rows) - {_RR_ONLY}))


def changes(*, placebo: bool) -> dict[str, float]:
    """Return by how much each arm with RR changes from the first draw to the second in S+V.

    The least change comes first. RR is real, or permuted in placebos.
    """
    with (RESULTS / "fusion_compare/trials.csv").open() as file:
        trials = {(row["arm"], row["draw"]): row for row in csv.DictReader(file)}
    placebos = {arm for arm, _ in trials if arm.endswith(PLACEBO_SUFFIX)}
    column = "metrics.val_auprc_sv"
    names = [name if placebo else name.removesuffix(PLACEBO_SUFFIX) for name in placebos]
    change = {
        name: float(trials[name, "1"][column]) - float(trials[name, "0"][column]) for name in names
    }
    return dict(sorted(change.items(), key=itemgetter(1)))


def rises_between_draws() -> list[float]:
    """Return the changes of the arms with real RR that rise between the draws, least first."""
    return [change for change in changes(placebo=False).values() if change > 0]


def rank_correlation() -> str:
    """Return the correlation of the arms' ranks by their best screened and their full trial."""
    with (RESULTS / "fusion_grid/trials.csv").open() as file:
        trials = list(csv.DictReader(file))
    best: dict[str, dict[str, float]] = {"screened": {}, "complete": {}}
    for trial in trials:
        of_arms, arm = best[trial["outcome"]], trial["arm"]
        of_arms[arm] = max(of_arms.get(arm, 0.0), float(trial["metrics.val_auprc_sv"]))
    screened, complete = best.values()
    return score(float(spearmanr([screened[arm] for arm in complete], list(complete.values()))[0]))


def p_value(text: str) -> float:
    """Return a p as a number; `<.001` is 0."""
    return 0.0 if text.startswith("<") else float(text)


def least_p(contrasts: str, column: str, without: str | None = None) -> str:
    """Return the smallest adjusted p of a table; pairs that were not declared have none.

    Contrasts whose name has the text `without` are left out.
    """
    declared = [
        cells[column]
        for name, cells in table(contrasts).rows.items()
        if cells[column] and not (without and without in name)
    ]
    return min(declared, key=p_value)


def ends(text: str) -> list[float]:
    """Return both ends of the interval in a cell, or nothing where there is none."""
    interval = re.search(r"\[(\S+), (\S+)\]", text)
    return [float(end) for end in interval.groups()] if interval else []


def keep_n() -> str:
    """Count the arms whose interval of AUPRC N against the bare ECG is above the margin."""
    lows = [ends(row["AUPRC N"])[0] for row in table("kept").rows.values()]
    return f"{sum(low > -MARGIN for low in lows)} of the {len(lows)}"


def significant(contrasts: str) -> str:
    """Count the declared contrasts with an adjusted p below .05."""
    declared = [row["adjusted"] for row in table(contrasts).rows.values() if row["adjusted"]]
    return f"{sum(p_value(p) < LEVEL for p in declared)} of the {len(declared)}"


def signed(value: float) -> str:
    """Write a difference as tables do: `+.023`."""
    return ("-" if value < 0 else "+") + score(abs(value))


COMPUTED: dict[str, Callable[[], str]] = {
    "number of arms above their placebo": lambda: str(len(rises())),
    "least gain over a placebo": lambda: score(rises()[0]),
    "most gain over a placebo": lambda: score(rises()[-1]),
    "least gain on 100 patients": lambda: signed(gains()[0]),
    "most gain on 100 patients": lambda: signed(gains()[-1]),
    "arms that keep V": lambda: " and ".join(
        f"`{row.split()[0]}`"
        for row, cells in table("kept").rows.items()
        if cells["kept?"] == "kept"
    ),
    "arms that rise between draws": lambda: (
        f"{len(rises_between_draws())} of the {len(changes(placebo=False))}"
    ),
    "least rise between draws": lambda: signed(rises_between_draws()[0]),
    "most rise between draws": lambda: signed(rises_between_draws()[-1]),
    "change of film between draws": lambda: signed(changes(placebo=False)["film"]),
    "change of rr_only between draws": lambda: signed(changes(placebo=False)["rr_only"]),
    "least change of a placebo between draws": lambda: signed(min(changes(placebo=True).values())),
    "most change of a placebo between draws": lambda: signed(max(changes(placebo=True).values())),
    "smallest difference found": lambda: noted(_COMPARISON, r"together\): (\.\d+) in AUPRC S\+V"),
    "score to quote": lambda: noted(_COMPARISON, r"AUPRC S\+V to quote: (\.\d+)"),
    "rank correlation": rank_correlation,
    "arms that keep N": keep_n,
    "significant contrasts in V": lambda: significant("sealed contrasts"),
    "smallest adjusted p of the arms as published": lambda: least_p(
        "published contrasts", "adjusted p", without="_causal"
    ),
    "smallest adjusted p in V": lambda: least_p("sealed contrasts", "adjusted"),
    "smallest adjusted p in V, second opening": lambda: least_p("second contrasts", "adjusted"),
    "least F of the arms": lambda: score(min(networks("sealed arms", "F"))),
    "most F of the arms": lambda: score(max(networks("sealed arms", "F"))),
}
"""Figures that are computed from several cells."""


def figure(reference: str) -> str:
    """Return the figure that a reference names.

    Raises:
        FigureError: If no table has it.
    """
    if reference in COMPUTED:
        return COMPUTED[reference]()
    parts = reference.split(": ")
    if parts[0] == "table" and len(parts) in (2, 3):
        return table(parts[1]).markdown(parts[2].split("; ") if len(parts) == 3 else ())
    form = parts.pop() if parts[-1] in ("whole", "size") else ""
    if len(parts) != 3:
        computed = ", ".join(COMPUTED)
        raise FigureError(
            f"'{reference}': write 'TABLE: ROW: COLUMN', 'table: TABLE', or one of: {computed}"
        )
    text = cell(*parts, whole=form == "whole")
    return text.lstrip("+-") if form == "size" else text


def rendered(source: str) -> str:
    """Return a page's text with the figures of the tables in it.

    Raises:
        FigureError: If a reference has no figure, or a score is written without a reference; all
            faults together.
    """
    faults: list[str] = []

    def put(match: re.Match[str]) -> str:
        try:
            return figure(" ".join(match[1].split()))
        except FigureError as error:
            faults.append(str(error))
            return match[0]

    page = re.sub(r"{{(.+?)}}", put, source, flags=re.DOTALL)
    rest = re.sub(r"{{.+?}}", "", source, flags=re.DOTALL)
    # A score begins with its point; a time or a version does not, or a unit follows it.
    bare = re.findall(r"(?<![\w.])[-+]?\.\d+(?! s\b)", rest)
    faults += [f"the score {score} is written without a reference" for score in bare]
    if faults:
        raise FigureError("\n".join(faults))
    return page


def written() -> dict[Path, str]:
    """Return the text of both pages.

    Raises:
        FigureError: As `rendered`.
    """
    before, after = ANSWER
    head, _, rest = README.read_text().partition(before)
    answer = rendered((RESULTS / "answer.md.template").read_text())
    return {
        PAGE: rendered((RESULTS / "results.md.template").read_text()),
        README: f"{head}{before}{answer}{after}{rest.partition(after)[2]}",
    }


def main() -> int:
    """Write the pages, or say which are not as their sentences and the tables make them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 if one differs"
    )
    args = parser.parse_args()
    try:
        pages = written()
    except FigureError as error:
        sys.exit(f"{RESULTS}: {error}")
    differ = [page for page, text in pages.items() if text != page.read_text()]
    for page in differ:
        print(page, "differs" if args.check else "written")
        if not args.check:
            page.write_text(pages[page])
    return int(args.check and bool(differ))


if __name__ == "__main__":
    sys.exit(main())
