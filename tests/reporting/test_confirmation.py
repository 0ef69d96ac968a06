"""What a confirmation says of what a search said."""

from __future__ import annotations

import math
import re

from study.keys import AUPRC_SV
from study.reporting.confirmation import Confirmed, confirmation_text

FILM = Confirmed(arm="film", searched=0.55, values=(0.50, 0.52, 0.54))
CONCAT = Confirmed(arm="concat", searched=0.53, values=(0.51, 0.50, 0.49))
FLOOR = Confirmed(arm="floor", searched=0.48, values=(0.47, 0.46, 0.48))


def cells(text: str, arm: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"{arm} "))
    return re.split(" {2,}", line)


def shown(*arms: Confirmed, floor: Confirmed | None = FLOOR, epochs: str = "") -> str:
    return confirmation_text(
        arms, floor, search="tiny", objective=AUPRC_SV, reference="concat", epochs=epochs
    )


def test_what_was_searched_stands_beside_what_is_confirmed() -> None:
    text = shown(CONCAT, FILM)
    assert text.startswith("Confirmation of 'tiny'. AUPRC S+V: mean ± sd over 3 fold partitions,")
    # 0.02, mean of -.01, .02 and .05; two partitions of three are above 0.
    expected = ["film", ".550", ".520 ± .020", "+.030", "+.020 ± .030", "2 of 3"]
    assert cells(text, "film") == expected
    assert cells(text, "concat") == ["concat", ".530", ".500 ± .010", "+.030", "-", "-"]
    assert cells(text, "floor")[:4] == ["floor", ".480", ".470 ± .010", "+.010"]
    assert text.index("\nfilm ") < text.index("\nconcat ") < text.index("\nfloor ")


def test_the_optimism_is_stated_with_what_the_folds_alone_change() -> None:
    text = shown(FILM, CONCAT)
    assert "Optimism seen: +.030, mean of search - confirmed.\n" in text
    folds = "Nobody chose the floor: its search - confirmed, +.010, is due to the folds alone.\n"
    assert folds in text
    remains = "Optimism that remains: seeds and folds are fresh, patients are not."
    assert remains in text
    assert "Nobody chose" not in shown(FILM, CONCAT, floor=None)
    # Trials of other lengths say nothing of it.
    text = shown(FILM, CONCAT, epochs="1, here 6")
    assert "Epochs of the search: 1, here 6. Search - confirmed mixes the effects of " in text
    assert "Optimism seen" not in text
    assert folds in text and remains in text


def test_an_arm_without_a_score_in_a_partition_has_no_mean() -> None:
    lost = Confirmed(arm="lost", searched=0.6, values=(0.5, math.nan, 0.5))
    text = shown(lost, CONCAT)
    assert cells(text, "lost") == ["lost", ".600", "-", "-", ".000 ± .014", "1 of 2"]
    assert text.index("\nconcat ") < text.index("\nlost ")
