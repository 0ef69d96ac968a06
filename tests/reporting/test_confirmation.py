"""What a confirmation says of what a search said."""

from __future__ import annotations

import math

import pytest

from study.reporting.confirmation import Confirmed, confirmation_table

FILM = Confirmed(arm="film", searched=0.55, values=(0.50, 0.52, 0.54))
CONCAT = Confirmed(arm="concat", searched=0.53, values=(0.51, 0.50, 0.49))
FLOOR = Confirmed(arm="floor", searched=0.48, values=(0.47, 0.46, 0.48))


def cells(text: str, arm: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {arm} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


def shown(*arms: Confirmed, floor: Confirmed | None = FLOOR, epochs: str = "") -> str:
    return confirmation_table(
        arms, floor, reference="concat", heading="Head.", epochs=epochs, markdown=True
    )


def test_what_was_searched_stands_beside_what_is_confirmed() -> None:
    text = shown(CONCAT, FILM)
    assert text.startswith("Head.\n\n| arm ")
    # 0.02, mean of -.01, .02 and .05; two partitions of three are above 0.
    expected = ["film", "0.550", "0.520 ± 0.020", "+0.030", "+0.020 ± 0.030", "2 of 3"]
    assert cells(text, "film") == expected
    assert cells(text, "concat") == ["concat", "0.530", "0.500 ± 0.010", "+0.030", "-", "-"]
    assert cells(text, "floor")[:4] == ["floor", "0.480", "0.470 ± 0.010", "+0.010"]
    assert text.index("| film") < text.index("| concat ") < text.index("| floor")


def test_the_optimism_is_stated_with_what_the_folds_alone_change() -> None:
    text = shown(FILM, CONCAT)
    assert "Optimism seen: +0.030, mean of search - confirmed.\n" in text
    assert (
        "Of the floor, which nobody chose, search - confirmed is +0.010: that much is the folds.\n"
    ) in text
    assert "Optimism that remains: seeds and folds are fresh, patients are not." in text
    assert "nobody chose" not in shown(FILM, CONCAT, floor=None)


def test_no_optimism_is_read_from_trials_of_other_lengths() -> None:
    text = shown(FILM, CONCAT, epochs="1, here 6")
    assert "Epochs of the search: 1, here 6. Search - confirmed has other training, " in text
    assert "Optimism seen" not in text
    assert "Of the floor, which nobody chose, search - confirmed is +0.010: " in text
    assert "Optimism that remains: " in text


def test_an_arm_without_a_score_in_a_partition_has_no_mean() -> None:
    lost = Confirmed(arm="lost", searched=0.6, values=(0.5, math.nan, 0.5))
    text = shown(lost, CONCAT)
    assert cells(text, "lost") == ["lost", "0.600", "-", "-", "+0.000 ± 0.014", "1 of 2"]
    assert text.index("| concat ") < text.index("| lost")
    assert lost.mean != lost.mean
    assert CONCAT.change == pytest.approx(0.03)
