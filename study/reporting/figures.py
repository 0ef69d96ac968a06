"""Pictures of one finished trial, as small PNG files; NumPy in, no state of matplotlib touched.

Shapes: S seeds, N beats, C classes, D embedding, H heads, L time steps of the feature map,
P points of a curve.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from study.keys import CLASSES

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
"""One for each class, distinct for colour-blind readers (Okabe & Ito 2008)."""

LINES = ("-", "--", "-.", ":")
"""One for each class: colour is never the only difference."""

_MAX_POINTS = 400
_DPI = 100


def draw_trial(
    folder: Path,
    *,
    label: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    record: NDArray[np.int64] | None = None,
    gates: NDArray[np.floating] | None = None,
    gate_start: float | None = None,
    attention: NDArray[np.floating] | None = None,
    title: str = "",
) -> list[Path]:
    """Draw what there is to draw of a trial and return the files, in a stable order.

    Args:
        folder: Where the files go; created where it does not exist.
        label: [N] true classes.
        log_probs: [S, N, C] out-of-fold log-probabilities; NaN where a beat is in no fold.
        record: [N] record of each beat; where given, a curve says how many records it is from.
        gates: [members, D] gate values, where the fusion has a gate.
        gate_start: Value that every gate began at.
        attention: [C, H, L] mean attention by true class; one time step is not drawn, since its
            weight is 1 whatever the model does.
        title: Over every picture, such as the arm.

    Raises:
        ValueError: If shapes do not agree.
    """
    _check_shapes(label, log_probs, attention)
    folder.mkdir(parents=True, exist_ok=True)
    probs = _mean_over_seeds(log_probs)
    scored = np.isfinite(probs).all(axis=1)
    figures: dict[str, Figure] = {}
    if scored.any():
        figures["pr_curves"] = _pr_curves(
            label[scored], probs[scored], None if record is None else record[scored]
        )
        figures["confusion_matrix"] = _confusion(label[scored], probs[scored].argmax(axis=1))
    if gates is not None and gates.size:
        figures["gate_histogram"] = _gate_histogram(gates, gate_start)
    if attention is not None and attention.shape[2] > 1 and np.isfinite(attention).any():
        figures["attention"] = _attention(attention)
    return [_save(figure, folder / f"{name}.png", title) for name, figure in figures.items()]


def precision_recall(
    positive: NDArray[np.bool_], score: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return recall [P] and precision [P] at every distinct score, highest first.

    Args:
        positive: [N] whether a beat is of the class; one at least.
        score: [N] its score for the class.
    """
    order = np.argsort(-score, kind="stable")
    found = np.cumsum(positive[order])
    # Equal scores cannot be told apart: one point for all of them.
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    return found[last] / found[-1], found[last] / (last + 1.0)


def _check_shapes(
    label: NDArray[np.int64],
    log_probs: NDArray[np.float32],
    attention: NDArray[np.floating] | None,
) -> None:
    expected = (len(label), len(CLASSES))
    if log_probs.ndim != 3 or log_probs.shape[1:] != expected:
        raise ValueError(
            f"log_probs must be [S, N, C] with (N, C) = {expected}, got {log_probs.shape}"
        )
    if attention is not None and (attention.ndim != 3 or len(attention) != len(CLASSES)):
        raise ValueError(
            f"attention must be [C, H, L] with C = {len(CLASSES)}, got {attention.shape}"
        )


def _mean_over_seeds(log_probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the mean probability of the seeds that predicted a beat, [N, C]; NaN if none did."""
    probs = np.exp(log_probs.astype(np.float64))
    n = np.isfinite(probs).sum(axis=0)
    total = np.where(np.isfinite(probs), probs, 0.0).sum(axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _pr_curves(
    label: NDArray[np.int64], probs: NDArray[np.float64], record: NDArray[np.int64] | None
) -> Figure:
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for index, (name, axes) in enumerate(zip(CLASSES, panels, strict=True)):
        positive = label == index
        n, share = int(positive.sum()), float(positive.mean())
        records = "" if record is None else f" of {len(np.unique(record[positive]))} records"
        axes.set_title(f"{name}: {n:,} beats{records}", fontsize=10)
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
        if n == 0:
            axes.text(0.5, 0.5, "no beats of this class", ha="center")
            continue
        recall, precision = precision_recall(positive, probs[:, index])
        area = float(np.sum(np.diff(recall, prepend=0.0) * precision))
        # Where recall does not move there is no new step to draw.
        steps = np.flatnonzero(np.diff(recall, prepend=0.0))
        some = steps[np.unique(np.linspace(0, len(steps) - 1, _MAX_POINTS).astype(int))]
        axes.step(
            np.append(0.0, recall[some]),
            np.append(precision[0], precision[some]),
            where="pre",
            color=COLOURS[index],
            label=f"pooled AUPRC {area:.3f}",
        )
        axes.axhline(share, color="0.4", ls=":", label=f"chance: prevalence {share:.3f}")
        axes.legend(fontsize=8, loc="lower left" if share < 0.5 else "center left")
    figure.supxlabel("recall (sensitivity)", fontsize=10)
    figure.supylabel("precision (+P)", fontsize=10)
    figure.text(
        0.99, 0.005, "folds pooled; scores are within folds", ha="right", fontsize=7, color="0.4"
    )
    return figure


def _confusion(label: NDArray[np.int64], predicted: NDArray[np.int64]) -> Figure:
    n = len(CLASSES)
    counts = np.bincount(label * n + predicted, minlength=n * n).reshape(n, n)
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


def _gate_histogram(gates: NDArray[np.floating], start: float | None) -> Figure:
    figure = Figure(figsize=(4.8, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.hist(gates.ravel(), bins=40, range=(0.0, 1.0), color=COLOURS[0])
    if start is not None:
        axes.axvline(start, color=COLOURS[1], ls="--", label=f"start {start:.2f}")
        axes.legend(fontsize=8)
    members, width = gates.shape
    axes.set_title(f"{members} members x {width} channels", fontsize=10)
    axes.set(xlabel="gate value", ylabel="channels", xlim=(0, 1))
    # Finding 3 of the study: the gate adds no function to the linear layer after it.
    axes.text(
        0.99,
        0.97,
        "not a measure of RR's contribution",
        ha="right",
        va="top",
        fontsize=7,
        color="0.4",
        transform=axes.transAxes,
    )
    return figure


def _attention(attention: NDArray[np.floating]) -> Figure:
    steps = attention.shape[2]
    time = (np.arange(steps) + 0.5) / steps
    figure = Figure(figsize=(5.6, 3.6), layout="constrained")
    axes = figure.subplots()
    for index, name in enumerate(CLASSES):
        heads = attention[index]
        if not np.isfinite(heads).all():
            continue
        if len(heads) > 1:
            axes.plot(time, heads.T, color=COLOURS[index], lw=0.5, alpha=0.4)
        axes.plot(time, heads.mean(axis=0), color=COLOURS[index], ls=LINES[index], label=name)
    axes.axhline(1 / steps, color="0.4", lw=0.8, label="uniform")
    axes.set(xlabel="place in the window (0 start, 1 end)", ylabel="mean attention", xlim=(0, 1))
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, ncols=5, loc="upper center")
    heads_text = "mean of heads, thin: each head" if attention.shape[1] > 1 else "one head"
    axes.set_title(f"by true class ({heads_text})", fontsize=10)
    return figure


def _save(figure: Figure, path: Path, title: str) -> Path:
    if title:
        figure.suptitle(title, fontsize=10)
    FigureCanvasAgg(figure)
    # Without the version of matplotlib in it, equal trials give equal files.
    figure.savefig(path, dpi=_DPI, metadata={"Software": None})
    return path
