"""Templates: mean deviations from them by class, and one record beside its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from study.data.reference.means import TemplateMeans
from study.data.reference.templates import LARGEST_DEVIATION, template_text
from study.data.windows import SEGMENTATIONS
from study.keys import CLASSES, MIN_BEATS_OF_RECORD
from study.reporting.page.html import Block, Figure, missing
from study.reporting.page.svg import Panel, Range, span
from study.reporting.results import StudyResults


def templates(results: StudyResults) -> Iterator[Block]:
    """Yield the means beside each template; nothing where no arm uses one."""
    if not any(arm.reference for arm in results.arms.values()):
        return
    if not results.templates:
        yield missing(
            "No pictures of templates",
            results.why("templates", "the study's next start writes what they need"),
        )
    for number, means in enumerate(results.templates):
        yield _deviations(means, number)
    for number, means in enumerate(results.templates):
        yield _record(means, number)


def time_axis(segmentation: str) -> tuple[Range, str]:
    """Return the ends of a window's time axis, and its name."""
    cut = SEGMENTATIONS[segmentation]
    # A daeac window starts at the previous beat.
    if cut.from_previous:
        return (0.0, 1.0), "share of the window"
    return (cut.start_s, cut.stop_s), "s from R"


def _parts(means: TemplateMeans) -> tuple[str, str]:
    """Return segmentation and template of a cut."""
    segmentation, *_, template = means.cut.split("/")
    return segmentation, template


def _axes(
    means: TemplateMeans, titles: Mapping[int, str], y: Range, y_label: str
) -> Iterator[tuple[int, Panel, NDArray[np.float64]]]:
    """Yield each class that has a title, its empty panel, and the times of samples."""
    ends, name = time_axis(_parts(means)[0])
    times = np.linspace(*ends, len(means.template))
    for c, title in titles.items():
        title = f"{CLASSES[c]}: {title}"
        yield c, Panel(x=ends, y=y, title=title, x_label=name, y_label=y_label), times


def _deviations(means: TemplateMeans, number: int) -> Figure:
    segmentation, template = _parts(means)
    low, high = means.deviation - means.spread, means.deviation + means.spread
    y = span([float(v) for v in np.concatenate([low, high]).ravel()], around=0.0)
    there = [c for c in range(len(CLASSES)) if np.isfinite(means.deviation[c]).all()]
    titles = {c: f"{int(means.n[c]):,} beats" for c in there}
    panels = []
    for c, panel, times in _axes(means, titles, y, "deviation, sd of the template"):
        panel.band(times, low[c], high[c], series=0)
        panel.level(0.0)
        panel.line(times, means.deviation[c])
        panels.append(panel.svg())
    return Figure(
        name=f"deviation_{number}",
        title=f"Deviation from the usual beat, template {template}",
        shows=(
            f"The mean deviation of each class from the template {template_text(template)}, with "
            f"its standard deviation over beats; {segmentation} window."
        ),
        reading=(
            "Where a line leaves 0 the beats of a class differ from their patient's usual beat. A "
            f"flat line of N is what a template is for. Deviations end at ±{LARGEST_DEVIATION:g}."
        ),
        panels=panels,
    )


def _record(means: TemplateMeans, number: int) -> Figure:
    segmentation, template = _parts(means)
    there = [c for c in range(len(CLASSES)) if np.isfinite(means.beat[c]).all()]
    y = span([float(v) for v in np.concatenate([means.beat[there].ravel(), means.template])])
    titles = {c: f"mean of {int(means.n_of_record[c]):,} beats" for c in there}
    panels = []
    for c, panel, times in _axes(means, titles, y, "mV, mean-free"):
        panel.line(times, means.template, style="mark")
        panel.line(times, means.beat[c])
        panels.append(panel.svg())
    return Figure(
        name=f"template_{number}",
        title=f"Record {means.record} beside its usual beat, template {template}",
        shows=(
            "The mean window of each class of one record, and the record's template (dashed; the "
            f"mean where it changes from beat to beat); {segmentation} window. A class with fewer "
            f"than {MIN_BEATS_OF_RECORD} beats is left out."
        ),
        reading=(
            "The record has most beats of S and V both. A template that lies between two classes "
            "is of a record with two rhythms, or full of V: deviations then say less."
        ),
        panels=panels,
    )
