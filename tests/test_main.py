"""The command `ecg-fusion`, and the wheel that brings it to a folder that is no checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from study.__main__ import main
from tests.command import here

ROOT = Path(__file__).parents[1]


def test_a_command_is_run_by_its_name_and_texts_name_others_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["bin/ecg-fusion"])
    for words, code, said in (
        ([], 2, "ecg-fusion COMMAND ...\n"),
        (["--version"], 0, "ecg-fusion 0."),
        (["predict", "--help"], 0, "exit"),
        (["rnu"], 2, "error: unknown command 'rnu'; known: "),
        (["run"], 2, "; `ecg-fusion run --list` shows them\n"),
        (["check-plugin", "-x"], 2, "see ecg-fusion check-plugin --help\n"),
    ):
        ended = here(tmp_path, words, main)
        assert ended.code == code and said in ended.out + ended.err, ended


def test_a_wheel_has_all_files_and_a_folder_called_study_does_no_harm(tmp_path: Path) -> None:
    site, harm, script = tmp_path / "site", tmp_path / "study" / "__init__.py", tmp_path / "bin"
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(site), versions=["standard"])
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    listed = ["git", "ls-files", "study", "search_spaces"]
    tracked = subprocess.check_output(listed, cwd=ROOT, text=True).split()
    inside = [site / "study" / name.removeprefix("study/") for name in tracked]
    assert inside and [path for path in inside if not path.is_file()] == []

    harm.parent.mkdir()
    harm.write_text("raise SystemExit(9)")
    script.mkdir()
    (script / "ecg-fusion").write_text("from study.__main__ import script\nscript()\n")
    said = subprocess.check_output(
        [sys.executable, script / "ecg-fusion", "run", "--list"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        text=True,
    )
    assert "  fusion_grid " in said
