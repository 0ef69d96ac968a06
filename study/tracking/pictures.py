"""Draws one finished trial as small PNG files, without matplotlib's global state.

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from study.keys import CLASSES, COLOURS
from study.training.metrics import (
    average_precision,
    confusion_matrix,
    mean_probability,
    threshold_counts,
)
from study.wording import score_text

_MAX_POINTS = 400
_DPI = 100


def draw_trial(
    folder: Path,
    *,
    label: NDArray[np.int64],
    record: NDArray[np.int64],
    log_probs: NDArray[np.float32],
) -> None:
    """Draw a trial's curves and its confusion matrix; nothing where no beat was predicted.

    Args:
        folder: Where the files go.
        label: [N] true classes.
        record: [N] record of each beat: each curve names its number of records.
        log_probs: [S, N, C] out-of-fold log-probabilities; NaN where a beat is in no fold.
    """
    probs = mean_probability(log_probs)
    scored = np.isfinite(probs).all(axis=1)
    if not scored.any():
        return
    figures = {
        "pr_curves": _pr_curves(label[scored], probs[scored], record[scored]),
        "confusion_matrix": _confusion(label[scored], probs[scored].argmax(axis=1)),
    }
    for name, figure in figures.items():
        _save(figure, folder / f"{name}.png")


def _pr_curves(
    label: NDArray[np.int64], probs: NDArray[np.float64], record: NDArray[np.int64]
) -> Figure:
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for index, (name, axes) in enumerate(zip(CLASSES, panels, strict=True)):
        positive = label == index
        n, share = int(positive.sum()), float(positive.mean())
        n_records = len(np.unique(record[positive]))
        axes.set_title(f"{name}: {n:,} beats of {n_records} records", fontsize=10)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        if n == 0:
            axes.text(0.5, 0.5, "no beats of this class", ha="center")
            continue
        true, false = threshold_counts(probs[:, index], positive)
        recall, precision = true / true[-1], true / (true + false)
        area = average_precision(true, false)
        # A point with the same recall adds no step to the curve.
        steps = np.flatnonzero(np.diff(recall, prepend=0.0))
        some = steps[np.unique(np.linspace(0, len(steps) - 1, _MAX_POINTS).astype(int))]
        axes.step(
            np.append(0.0, recall[some]),
            np.append(precision[0], precision[some]),
            where="pre",
            color=COLOURS[index],
            label=f"pooled AUPRC {score_text(area)}",
        )
        axes.axhline(share, color="0.4", ls=":", label=f"chance: prevalence {score_text(share)}")
        axes.legend(fontsize=8, loc="lower left" if share < 0.5 else "center left")
    figure.supxlabel("recall (sensitivity)", fontsize=10)
    figure.supylabel("precision (+P)", fontsize=10)
    figure.text(
        0.99, 0.005, "folds pooled; scores are within folds", ha="right", fontsize=7, color="0.4"
    )
    return figure


def _confusion(label: NDArray[np.int64], predicted: NDArray[np.int64]) -> Figure:
    n = len(CLASSES)
    counts = confusion_matrix(label, predicted, n_rows=n, n_columns=n)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class", shrink=0.85)
    for true, row in enumerate(share):
        for guess, value in enumerate(row):
            text = f"{counts[true, guess]:,}\n{value:.1%}"
            colour = "white" if value < 0.55 else "black"
            axes.text(guess, true, text, ha="center", va="center", color=colour, fontsize=8)
    axes.set_xticks(range(n), CLASSES)
    axes.set_yticks(range(n), CLASSES)
    axes.set(xlabel="predicted class", ylabel="true class")
    return figure


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    # Leave matplotlib's version out, so that equal trials give equal files.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
