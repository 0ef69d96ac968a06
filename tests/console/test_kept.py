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

DEFAULTS = vars(parser("").parse_args([]))


def kept(source: Source, *words: str) -> str:
    return command_line(parser("").parse_args(words), DEFAULTS, source)


def test_the_command_is_kept_without_credentials_and_what_is_of_one_start(
    records_source: Source,
) -> None:
    words = ["--space", "a b.toml", "--epochs", "2", "--no-track"]
    once = ["--resume", "--time-limit", "5", "-v", "--tracking-uri", "https://user:s3cr3t@host/x"]
    assert kept(records_source, *words, *once) == (
        "python -m study.run --space 'a b.toml' --epochs 2 "
        "--tracking-uri 'https://***@host/x' --no-track --data synthetic"
    )


@pytest.mark.parametrize(
    ("line", "given", "fault"),
    [
        ("python -m study.run", ["--space", "x"], "goes by the study's own folder; leave --space"),
        ("", [], "has no command.txt"),
        ("python -m study.evaluate --plan p", [], "was started by `python -m study.evaluate"),
        ("python -m study.run --tracking-uri https://***@h", [], "credentials are kept in no"),
    ],
)
def test_what_cannot_be_resumed_by_its_name_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, given: list[str], fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    study_plan(name="tiny").save(study_folder(tmp_path, "tiny"))
    if line:
        (study_folder(tmp_path, "tiny") / COMMAND).write_text(line)
    with pytest.raises(UsageError, match=fault):
        resumed(parser("").parse_args(["--resume", "tiny", *given]), parser(""))


def test_a_study_is_resumed_by_its_name_with_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = study_folder(tmp_path, "tiny")
    study_plan(name="tiny").save(folder)
    words = "--space smoke --trials 3 --seed 4 --partition-seed 5 --records r --concurrency 1"
    (folder / COMMAND).write_text(f"python -m study.run {words} --storage x\n")
    given = parser("").parse_args(["--resume", "tiny", "--concurrency", "2", "-q"])
    args = resumed(given, parser(""))
    assert (args.name, args.space) == ("tiny", str(folder / "space.toml"))
    assert (args.seed, args.partition_seed, str(args.records)) == (4, 5, "r")
    assert (args.concurrency, args.quiet) == (2, True), "what is given now counts"
    assert (args.trials, args.storage) == (None, None), "space.toml and places.json have these"
