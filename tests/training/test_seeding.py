"""Random streams are told apart by every part of their name, and by nothing else."""

from __future__ import annotations

from dataclasses import replace

from study.training.seeding import Purpose, Streams

_STREAMS = Streams(study_seed=3, seed_index=1, fold=2)


def _draw(streams: Streams, purpose: Purpose = Purpose.ORDER, number: int = 0) -> list[float]:
    return list(streams.generator(purpose, number).random(3))


def test_numbers_are_those_of_every_machine() -> None:
    """A change of these is a change of every result, and belongs in the changelog."""
    drawn = _STREAMS.generator(Purpose.ORDER, 0).integers(0, 1000, size=4)
    assert drawn.tolist() == [461, 481, 690, 15]


def test_each_part_of_the_name_tells_streams_apart() -> None:
    parts = {"study_seed": 4, "seed_index": 0, "fold": 0}
    others = [_draw(replace(_STREAMS, **{part: value})) for part, value in parts.items()]
    purposes = [_draw(_STREAMS, purpose) for purpose in Purpose]
    drawn = [*others, *purposes, _draw(_STREAMS, number=1)]
    assert len({value for values in drawn for value in values}) == 3 * len(drawn)
