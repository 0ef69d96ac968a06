"""The literature table: who chose on the test set is flagged."""

from __future__ import annotations

from study.reporting.page.literature import LITERATURE


def test_those_that_selected_on_ds2_are_flagged() -> None:
    flagged = {work.work for work in LITERATURE if work.flag == "selected on DS2"}
    # Their code says so: DAEAC's train.py validates on target_records; issues #14 and #16 of
    # Mousavi & Afghah's repository.
    assert flagged == {"Mousavi & Afghah 2019", "DAEAC 2021"}


def test_every_work_says_where_its_figures_were_read() -> None:
    assert all(work.source and work.selection for work in LITERATURE)
    assert {work.flag for work in LITERATURE} == {"selected on DS2", "DS1 only", "not stated"}
