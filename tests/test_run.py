"""The command line before any trial runs: lists, refusals, the plan, credentials in addresses.

Whole studies are in tests/tuning/test_ray_tune.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from study import predict, report, run
from study.command import REFUSED
from study.data.source import Source
from study.training import engine
from tests.builders import space_toml, study_plan, write_split
from tests.command import Main, here

SPACE = space_toml(
    {
        "fusion": ["film", "mhca_time"],
        "heads": {"values": [1, 2], "when": {"fusion": ["mhca_time"]}},
    },
    fixed={"embed_dim": 16, "epochs": 2, "normal_beats_per_epoch": 50},
    description="two branches",
    settings={"sampler": "tpe", "trials": 4, "folds": 2, "seeds": 3},
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beats")


@pytest.fixture
def workspace(
    records_source: Source, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty folder to run in, with a space and a split of six records."""
    write_split(tmp_path, records_source.records[:6])
    (tmp_path / "two.toml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STUDY_CACHE_DIR", str(cache))
    return tmp_path


@pytest.fixture
def two(workspace: Path, records_source: Source) -> list[str]:
    """The arguments that run the space of this file."""
    records = str(records_source.folders[0])
    return ["--space", "two.toml", "--records", records, "--split", "split.toml"]


def test_a_list_shows_spaces_and_studies(workspace: Path) -> None:
    first = here(workspace, ["--list"]).out
    for name in ("fusion_compare", "fusion_grid", "fusion_tuning", "published_arms", "smoke"):
        assert f"\n  {name} " in first
    assert "  smoke              search, 2 configurations\n" in first
    assert first.endswith("studies (studies/): none in this folder\n")

    study_plan(name="mine").save(workspace / "studies" / "mine")
    (workspace / "studies" / "bad").mkdir()
    (workspace / "studies" / "bad" / "plan.json").write_text("{")
    second = here(workspace, ["--list"]).out
    assert "  mine               search of space tiny, data: synthetic\n" in second
    assert " nothing is known of its trials: " in second
    assert "  bad                cannot be read; `--status bad` says why\n" in second


def test_a_begun_search_goes_on_without_the_study_that_informed_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_plan(name="mine").save(workspace / "studies" / "mine")
    monkeypatch.setattr(run, "_run", lambda args, began: 0)
    words = ["--space", "two.toml", "--start-from", "gone", "--name"]
    assert [here(workspace, [*words, name]).code for name in ("mine", "new")] == [0, 2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--space NAME is needed; `python -m study.run --list` shows them"),
        (["--space", "fusion_gird"], "unknown space 'fusion_gird'; known: fusion_compare, "),
        (["smoke"], "'smoke' stands without its option; a space is run by --space smoke."),
        (["--space", "smoke", "--name", "../up"], "study '../up': a study's name has letters"),
        (["--space", "smoke", "--trials", "0"], "space smoke: trials: must be a whole number"),
        (["--space", "smoke", "--resume"], "there is no study 'smoke' in "),
        (["--space", "smoke", "--start-from", "none"], "there is no study 'none' in "),
        (
            ["--space", "smoke", "--epochs", "0", "--folds", "99"],
            "space smoke: 2 faults\n  - epochs: must be in [1, 1000], got 0\n"
            "  - folds: must be in [2, 22] for 22 patients, got 99",
        ),
        (
            ["--epoch", "3", "--sede=1", "--zzz"],
            "--epoch (did you mean --epochs?), --sede (did you mean --seed?), --zzz; see python",
        ),
        (
            ["--space", "smoke", "--name", ""],
            "--name: is given no text (an unset variable of the shell?)",
        ),
        (["--space", "smoke", "--data", "synthetc"], "synthetic. Did you mean 'synthetic'?"),
        (["--space", "smoke", "--records", "r"], "--records needs --split FILE, which says"),
        (["--time-limit", "5x"], "'5x': give a number and s, m, h or d, as in 30m"),
        (["--trial-time-limit=-1s"], "'-1s': must be above 0"),
        (["--seed=-1"], "'-1': must be a whole number from 0 to 2^31 - 1"),
        (["--gpus-per-trial", "1.5"], "'1.5': give a share up to 1, or a whole number"),
        (["--space", "smoke", "--top", "3"], "--top: means something with --confirm only"),
        (["--confirm", "none"], "there is no study 'none' in "),
        (
            ["--confirm", "x", "--space", "smoke", "--epochs", "0", "--seed", "4"],
            "--confirm x: 3 faults\n"
            "  - --space: does not go with --confirm, which takes it from the search\n"
            "  - --seed: does not go with --confirm, which takes one that is fresh\n"
            "  - epochs: must be in [1, 1000], got 0",
        ),
        (["--status", "x", "--repair", "x"], "--status, --repair: give one; --repair shows"),
        (
            ["--status", "x", "--space", "smoke", "--resume"],
            "--space, --resume: means nothing with --status, which goes by the study's own plan; ",
        ),
        (["--status", "x", "--dry-run"], "--dry-run: means nothing with --status"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_what_cannot_be_run_is_refused(workspace: Path, arguments: list[str], said: str) -> None:
    before = sorted(workspace.rglob("*"))
    ended = here(workspace, arguments)
    assert (ended.code, ended.out) == (2, "")
    assert re.search(rf"(?m)^error: .*{re.escape(said)}", ended.err), ended.err
    assert sorted(workspace.rglob("*")) == before


def test_a_word_is_read_as_what_it_means() -> None:
    parse = run._parser().parse_args
    limits = {"90s": 90, "90": 90, "30m": 1800, "1.5h": 5400, "1d": 86400}
    assert {text: parse(["--time-limit", text]).time_limit for text in limits} == limits
    assert [parse(["--folds", text]).folds for text in ("5", "published")] == [5, "published"]


def test_a_dry_run_prints_the_plan_and_writes_no_study(workspace: Path, two: list[str]) -> None:
    text = here(workspace, [*two, "--dry-run", "--concurrency", "2", "--device", "cpu"]).out
    lines = text.splitlines()
    assert lines[:2] == ["study 'two': search of space 'two'", "  two branches"]
    assert "trials: 3 of up to 2 epochs, 2 arms, 6 members each (2 folds x 3 seeds)" in lines
    # mhca_time has two heads, film none
    assert "sampler: tpe, scheduler: asha, objective: val_auprc_sv, grid: 3" in lines
    assert "note: the space has 3 configurations, fewer than 4 trials: each is run once" in lines
    assert "note: tpe models conditional parameters one by one: heads" in lines
    assert ["fold", "N", "S", "V", "F", "records"] in [line.split() for line in lines]
    branches = [line for line in lines if " parameters  " in line]
    assert [line.split("  ")[1] for line in branches] == [
        "opt1 / daeac / film / published7 / real",
        "opt1 / daeac / mhca_time / published7 / real",
    ]
    assert all(line.endswith("late vector, window") for line in branches)
    assert re.search(r"\ntime: at most .* trials, 2 at once, .* each on cpu.* the floors", text)
    assert {path.name for path in workspace.iterdir()} == {"split.toml", "two.toml"}


@pytest.mark.parametrize("kept", ["bf16", "fp32"])
def test_a_study_keeps_the_precision_that_was_measured_when_it_began(
    workspace: Path, two: list[str], monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """A machine that is busy now may measure something else."""
    monkeypatch.setattr(engine, "bfloat16_gain", lambda: 0.5 if kept == "bf16" else 2.0)
    study_plan(name="two", engine=f"{kept}, not compiled").save(workspace / "studies" / "two")
    ended = here(workspace, [*two, "--dry-run", "--resume", "--device", "cpu"])
    assert f"arithmetic: {kept}, " in ended.out


def test_a_dry_run_goes_by_the_command_line(workspace: Path, two: list[str]) -> None:
    changes = ["--sampler", "grid", "--scheduler", "none", "--folds", "3", "--seeds", "1"]
    changes += ["--epochs", "5", "--objective", "val_auprc_macro", "--name", "mine"]
    text = here(workspace, [*two, *changes, "--dry-run", "--concurrency", "1"]).out
    assert text.startswith("study 'mine': search of space 'two'\n")
    assert "trials: 3 of 5 epochs, 2 arms, 3 members each (3 folds x 1 seed)" in text
    assert "sampler: grid, scheduler: none, objective: val_auprc_macro, grid: 3" in text
    assert "at most" not in text


SECRET = "s3cr3t"
USER, KEY = f"user:{SECRET}@127.0.0.1:1", f"AKIA:{SECRET}"
SERVER, DATABASE = f"https://{USER}", f"postgresql://{USER}/db"
CLOSED = ": cannot be opened ("


@pytest.mark.parametrize(
    ("main", "options", "fault"),
    [
        (run.main, f"--study-storage {DATABASE}", CLOSED),
        (run.main, f"--study-storage mysql://127.0.0.1:1/db?user=u&password={SECRET}", CLOSED),
        (run.main, f"--tracking-uri {SERVER}", "tracking: cannot use https://127.0.0.1:1: "),
        (run.main, f"--tracking-uri ftp://{USER}/?token={SECRET}", "'ftp://127.0.0.1:1/?token="),
        (run.main, f"--storage s3://{KEY}@bucket/x?secret_key={SECRET}", "--storage s3://...: ca"),
        (run.main, f"--storage nowhere://{KEY}@bucket/x", "--storage nowhere://...: cannot be "),
        (run.main, f"--address ray://{USER}", "--address ray://127.0.0.1:1: "),
        (run.main, "--address auto", "--address auto: nothing answers there "),
        (run.main, "--address host:port", "--address host:port: nothing answers there "),
        (predict.main, f"--record p01 --model m --tracking-uri {SERVER}", "https://127.0.0.1:1"),
        (predict.main, f"--record p01 --model m --tracking-uri {DATABASE}", "//127.0.0.1:1/db: "),
        (
            report.main,
            f"-v --study x --tracking-uri {SERVER} --study-storage {DATABASE}",
            "there is no study 'x'",
        ),
    ],
)
def test_no_credentials_of_an_address_are_told(
    workspace: Path,
    two: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    main: Main,
    options: str,
    fault: str,
) -> None:
    """Nobody listens at these ports; the secret is sought in all that is said and written."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("STUDY_CACHE_DIR", str(workspace / "beats"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # where 'auto' looks first
    (workspace / "p01.hea").touch()
    words = ["-v", *two] if main is run.main else []
    assert main([*words, *options.split()]) == REFUSED
    output = "".join(capfd.readouterr())
    assert fault in output
    assert SECRET not in output + caplog.text
    assert not (workspace / "beats").exists(), "it is refused before records are prepared"
    files = [path for path in workspace.rglob("*") if path.is_file()]
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
