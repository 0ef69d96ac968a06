"""The command of a study: what is kept of it, and what `--resume NAME` makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.console.arguments import parser
from study.console.kept import command_line, resumed
from study.data.source import Source
from study.errors import UsageError
from study.store.folder import COMMAND, study_folder
from tests.builders import study_plan


def test_the_command_is_kept_but_credentials_and_one_start_s_words(
    records_source: Source,
) -> None:
    words = ["--space", "a b.toml", "--epochs", "2", "--no-track"]
    once = ["--resume", "--time-limit", "5", "-v", "--tracking-uri", "https://user:s3cr3t@host/x"]
    args, defaults = parser("").parse_args([*words, *once]), vars(parser("").parse_args([]))
    assert command_line(args, defaults, records_source) == (
        "python -m study.run --space 'a b.toml' --epochs 2 "
        "--tracking-uri 'https://***@host/x' --no-track --data synthetic"
    )


def test_what_cannot_be_resumed_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = study_folder(tmp_path, "tiny")
    study_plan(name="tiny").save(folder)
    for line, given, fault in (
        ("", [], "has no command.txt"),
        ("python -m study.run", ["--space", "x"], "goes by the study's own folder; leave --space"),
        ("python -m study.evaluate --plan p", [], "was started by `python -m study.evaluate"),
        ("python -m study.run --tracking-uri https://***@h", [], "credentials are kept in no"),
        ("python -m study.run -q", [], "space.toml is missing; `python -m study.run -q --resume"),
    ):
        if line:
            (folder / COMMAND).write_text(line)
        with pytest.raises(UsageError, match=fault):
            resumed(parser("").parse_args(["--resume", "tiny", *given]), parser(""))
