"""Paired differences of declared contrasts, worked out by hand."""

from __future__ import annotations

from study.reporting.contrasts import contrast_table


def folds(*scores: tuple[float | None, float]) -> list[dict[str, float | None]]:
    return [{"auprc_S": s, "auprc_V": v} for s, v in scores]


def test_differences_are_taken_within_folds() -> None:
    """Fold by fold: S +.1 and +.3, V 0 and +.2, so S+V +.05 and +.25."""
    scores = {
        ("a", 0): folds((0.2, 0.7), (0.8, 0.9)),
        ("b", 0): folds((0.1, 0.7), (0.5, 0.7)),
    }
    text = contrast_table([("a", "b")], scores, markdown=True)
    cells = [cell.strip() for cell in text.splitlines()[-1].strip("|").split("|")]
    assert cells == ["a - b", "+0.150 ± 0.141", "+0.200 ± 0.141", "+0.100 ± 0.141", "2 of 2"]


def test_draws_are_averaged_before_folds_and_only_where_both_arms_have_them() -> None:
    scores = {
        ("a", 0): folds((0.3, 0.5)),
        ("a", 1): folds((0.5, 0.5)),
        ("a", 2): folds((0.9, 0.9)),
        ("b", 0): folds((0.1, 0.5)),
        ("b", 1): folds((0.1, 0.7)),
    }
    last = contrast_table([("a", "b")], scores).splitlines()[-1]
    assert last.split() == ["a", "-", "b", "+0.100", "+0.300", "-0.100", "1", "of", "1"]


def test_what_is_undefined_is_left_out() -> None:
    scores = {
        ("a", 0): folds((None, 0.5), (0.4, 0.5)),
        ("b", 0): folds((0.2, 0.4), (0.5, 0.7)),
    }
    last = contrast_table([("a", "b"), ("a", "missing")], scores).splitlines()[-2:]
    assert last[0].split()[3:] == ["-0.150", "-0.100", "-0.050", "±", "0.212", "0", "of", "1"]
    assert last[1].split() == ["a", "-", "missing", "-", "-", "-", "-"]
