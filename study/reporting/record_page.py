"""The page of one classified record: its beats by class, its strip, and the model that decided."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from study.keys import CLASSES
from study.reporting.classified import (
    NO_CLASS,
    ClassifiedRecord,
    agreement,
    beat_counts,
)
from study.reporting.page.html import Answers, Block, Figure, Note, Section, Tone, page_html
from study.wording import clock

_MEANINGS = ("normal", "supraventricular ectopic", "ventricular ectopic", "fusion of both")


def record_page(
    record: ClassifiedRecord, *, model: Sequence[str], notes: Sequence[str], strip: str
) -> str:
    """Return the page as HTML; `strip` is the file of the picture, beside the page."""
    decided = record.decided
    counts = [
        (f"{name}, {meaning}", f"{int((decided == c).sum()):,}", _share(record, c))
        for c, (name, meaning) in enumerate(zip(CLASSES, _MEANINGS, strict=True))
    ]
    beats: list[Block] = [Answers(counts), Note(beat_counts(record))]
    beats += [Note(note, Tone.NOTE) for note in notes]
    if (labels := agreement(record)) is not None:
        beats.append(labels)
    figure = Figure(
        name="strip",
        title="A stretch of the record",
        shows="25 mm of ECG paper a second; a mark above each beat, in the colour of its class.",
        reading="Beside S, V and F stands their probability. The line on top shows where in the "
        "record such beats are, and the stretch in grey.",
        panels=[f'<img src="{escape(strip)}" alt="{escape(strip)}" width="1100">'],
        wide=True,
    )
    return page_html(
        f"Record {record.name}",
        f"Lead {record.lead}, {record.sampling_rate_hz:g} Hz, {clock(record.duration_s)}. A class "
        "is no diagnosis: this is a research tool.",
        [
            Section(anchor="beats", title="Beats", blocks=beats),
            Section(anchor="strip", title="Strip", blocks=[figure]),
            Section(anchor="model", title="Model", blocks=[Note("\n".join(model))]),
        ],
    )


def _share(record: ClassifiedRecord, aami_class: int) -> str:
    known = record.decided[record.decided != NO_CLASS]
    return f"{(known == aami_class).mean():.1%} of the beats that have a class"
