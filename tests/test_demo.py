"""The demo: the shipped champion on a made-up record. Its counts hold the champion's content."""

from __future__ import annotations

from pathlib import Path

from study import demo
from study.models.seed_ensemble import SHIPPED, SeedEnsemble
from tests.command import here

COUNTS = "N 202, S 15, V 10, F 0"


def test_the_demo_names_strip_and_page_and_the_champion_decides_as_ever(tmp_path: Path) -> None:
    ended = here(tmp_path, [], demo.main)
    assert ended.code == 0, ended
    assert f"model: {SHIPPED}: " in ended.out
    assert f"beats: {COUNTS}; no class" in ended.out
    assert "strip:  demo/demo.png\npage:   demo/demo.html\n" in ended.out
    assert (tmp_path / "demo" / "demo.png").stat().st_size > 20_000
    page = (tmp_path / "demo" / "demo.html").read_text()
    assert "the shipped champion" in page and "this record is MADE UP: a program" in page

    model = SeedEnsemble.shipped()
    assert "all 22 records of MIT-BIH's DS1" in model.about["trained_on"]
    assert model.temperature > 1
