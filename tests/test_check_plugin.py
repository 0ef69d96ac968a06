"""The page on plug-ins, carried out: from an empty file to the comparison with its placebo."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study import evaluate, predict, report
from study.check_plugin import __main__ as check_plugin
from study.data.synthetic import write_records
from study.reporting.page.page import PAGE as PAGE_FILE
from study.store.study import Study
from tests.builders import low_rank
from tests.command import Ended, fresh_tables, here
from tests.conftest import NAMES
from tests.sealed.conftest import here as in_sealed_workspace
from tests.studies import Studies

PAGE = (Path(__file__).parents[1] / "docs" / "plugins.md").read_text()

SPACE = PAGE.split("```toml\n")[1].split("```")[0]

PLUGIN = ("--plugin", "low_rank.py")


@pytest.fixture(scope="module")
def walked(studies: Studies) -> Studies:
    (studies.folder / "low_rank.py").write_text(low_rank())
    small = SPACE.replace("folds = 5", "folds = 2").replace("epochs = 6", "epochs = 1")
    (studies.folder / "low_rank.toml").write_text(
        small.replace("[fixed]", "[fixed]\nembed_dim = 8\nnormal_beats_per_epoch = 40")
    )
    return studies


def anew(run: Callable[..., Ended], *given: Any) -> Ended:
    """Run a command that knows no plug-in yet, as a new process does."""
    with fresh_tables():
        return run(*given)


def test_the_commands_of_the_page_are_those_that_are_tested() -> None:
    assert "".join(re.findall(r"```sh\n(.*?)```", PAGE, re.S)).splitlines() == [
        "python -m study.check_plugin low_rank.py",
        "python -m study.run --plugin low_rank.py --space low_rank.toml --dry-run",
        "python -m study.run --plugin low_rank.py --space low_rank.toml",
        "python -m study.report --study low_rank",
    ]


def test_from_an_empty_file_to_its_comparison_with_its_placebo(walked: Studies) -> None:
    """At the end without the file: the study has its own copy."""
    folder = walked.folder
    checked = anew(here, folder, ["low_rank.py"], check_plugin.main)
    assert checked.code == 0 and checked.out.endswith("low_rank.py: no checks failed\n"), checked
    dry = anew(walked.here, "low_rank", "low_rank", *PLUGIN, "--dry-run")
    assert "RR reaches the output by: late vector" in dry.out and dry.code == 0, dry
    ended = anew(walked.here, "low_rank", "low_rank", *PLUGIN)
    assert ended.code == 0 and "low_rank_placebo" in ended.out, ended
    params = [run.data.params for run in walked.runs("low_rank", "trial")]
    assert sorted((p["fusion"], p.get("rank", "")) for p in params) == [
        ("concat_proj", ""),
        *[("low_rank", "32")] * 2,
    ]
    (folder / "low_rank.py").unlink()
    page = anew(here, folder, ["--study", "low_rank"], report.main)
    assert page.code == 0, page
    assert "low_rank_placebo" in (walked.study("low_rank") / "report" / PAGE_FILE).read_text()
    again = anew(walked.here, "low_rank", "low_rank")
    assert "was complete already" in again.out, again


def test_its_models_are_tested_registered_and_used(walked: Studies, tmp_path: Path) -> None:
    """Without the file: from the copies of the study and of the registry."""
    folder, own = walked.folder, tmp_path / "own"
    write_records(own, names=(*NAMES, "115", "116"), duration_s=60)
    split = own / "split.toml"
    split.write_text(f'name = "tiny"\ndevelopment = {[*NAMES]}\ntest = ["115", "116"]\n')
    planned = anew(here, folder, "--write-plan low_rank --arms low_rank".split(), evaluate.main)
    plan = folder / "low_rank_test.toml"
    plan.write_text(re.sub("(resamples|permutations) = .*", r"\1 = 100", plan.read_text()))
    printed = planned.out.split("python -m study.evaluate ")[1].split()
    assert printed == ["--plan", "low_rank_test.toml"]
    test = ["--test", "tiny", "--records", str(own), "--split", str(split), "--no-track"]
    with in_sealed_workspace(folder, tmp_path):
        for more, said in ((test, "opened 1 time"), (["--register", "lr"], "DS2: none: ")):
            ended = anew(here, folder, [*printed, *more], evaluate.main)
            assert ended.code == 0 and said in ended.out, ended
    store = ["--model", "lr", "--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    used = anew(here, own, ["--record", "115", *store, "--plot-seconds", "0"], predict.main)
    assert "model: lr version 1: opt1 / beat / low_rank / published7" in used.out, used


def test_a_changed_plug_in_is_refused_by_name(walked: Studies) -> None:
    folder = walked.folder
    copy = walked.study("low_rank") / "plugins" / "low_rank.py"
    (folder / "low_rank.py").write_text(low_rank().replace("torch.tanh(self.ecg", "(self.ecg"))
    given = anew(walked.here, "low_rank", "low_rank", *PLUGIN, "--resume")
    assert given.code == 2
    assert "--plugin: low_rank.py is not the plug-in that study 'low_rank' began with" in given.err
    copy.write_text(low_rank() + "# changed\n")
    status = anew(here, folder, ["--status", "low_rank"])
    assert status.code == 2 and f"{copy}: low_rank.py is not the plug-in" in status.err
    copy.unlink()
    (folder / "low_rank.py").write_text(low_rank())
    assert anew(walked.here, "low_rank", "low_rank", *PLUGIN).code == 0
    assert copy.read_text() == low_rank(), "a start brings a lost copy back"
    with fresh_tables():
        assert Study.open(folder, "low_rank").configs[0].model.fusion == "low_rank"
