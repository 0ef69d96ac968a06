"""How numbers, lists and names are written."""

from __future__ import annotations

from study.wording import first_few, listing, p_text, plural, short_names


def test_p_values_numbers_and_lists() -> None:
    assert (p_text(0.0004), p_text(0.001), p_text(0.25)) == ("<.001", ".001", ".250")
    assert [plural(n, "trial") for n in (0, 1, 1200)] == ["0 trials", "1 trial", "1,200 trials"]
    assert (listing(["a"]), listing(["a", "b", "c"])) == ("a", "a, b and c")
    assert first_few("abcd") == "a, b, c and d"
    assert first_few(map(str, range(78))) == "0, 1, 2 and 75 more"


def test_names_lose_what_all_of_them_share() -> None:
    arms = ["opt1 / daeac / film / published7 / real", "opt1 / daeac / mhca / published7"]
    assert list(short_names(arms).values()) == ["film", "mhca"]
    pair = ["opt1 / film / real", "opt1 / film / placebo"]
    assert list(short_names(pair).values()) == pair, "one would lose every part"
