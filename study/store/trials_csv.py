"""The settled trials of a study as CSV: an export for other programs, which nothing here reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from study.keys import Outcome
from study.store.trials import TrialRow


def trials_csv(rows: Sequence[TrialRow]) -> str:
    """Return all trials as CSV, a line each; columns are named as MLflow's search names them."""
    plain = ["number", "digest", "arm", "outcome", "cause", "epochs", "full_epochs", "seconds"]
    plain += ["draw", "duplicate_of"]
    params = dict.fromkeys(name for row in rows for name in row.params)
    metrics = dict.fromkeys(name for row in rows for name in row.metrics)
    text = io.StringIO()
    # Prefixed: learning_rate is a parameter and, as it anneals, a metric.
    names = [f"params.{name}" for name in params] + [f"metrics.{name}" for name in metrics]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*plain, *names])
    for row in sorted(rows, key=lambda row: row.number):
        values = [getattr(row, name) for name in plain]
        values += [row.params.get(name) for name in params]
        writer.writerow([*values, *(row.metrics.get(name) for name in metrics)])
    return text.getvalue()


def read_trials_csv(text: str) -> list[TrialRow]:
    """Return the rows of a file that `trials_csv` wrote; parameters as text."""
    rows = []
    for line in csv.DictReader(io.StringIO(text)):
        params, metrics = (
            {
                name.removeprefix(f"{group}."): value
                for name, value in line.items()
                if name.startswith(f"{group}.") and value != ""
            }
            for group in ("params", "metrics")
        )
        full_epochs, draw, duplicate_of = (
            int(line[name]) if line[name] else None
            for name in ("full_epochs", "draw", "duplicate_of")
        )
        rows.append(
            TrialRow(
                number=int(line["number"]),
                digest=line["digest"],
                arm=line["arm"],
                params=params,
                outcome=Outcome(line["outcome"]),
                cause=line["cause"],
                metrics={name: float(value) for name, value in metrics.items()},
                epochs=int(line["epochs"]),
                full_epochs=full_epochs,
                seconds=float(line["seconds"]),
                draw=draw,
                duplicate_of=duplicate_of,
            )
        )
    return rows
