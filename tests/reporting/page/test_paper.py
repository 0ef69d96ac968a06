"""The literature table: who chose on the test set is flagged."""

from __future__ import annotations

from study.reporting.page.paper import published


def works() -> list[dict[str, str]]:
    header, rows = published()
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_those_that_selected_on_ds2_are_flagged() -> None:
    flagged = {work["work"] for work in works() if work["flag"] == "selected on DS2"}
    # Their code says so: DAEAC's train.py validates on target_records; issues #14 and #16 of
    # Mousavi & Afghah's repository.
    assert flagged == {"Mousavi & Afghah 2019", "DAEAC 2021"}


def test_every_work_says_where_its_figures_were_read() -> None:
    assert all(value for work in works() for value in work.values())
    assert {work["flag"] for work in works()} == {"selected on DS2", "DS1 only", "not stated"}
