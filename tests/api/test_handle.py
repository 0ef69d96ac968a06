"""Studies from Python: the notebook, carried out on a small space, and what is refused."""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from study import api
from study.errors import UsageError
from study.keys import CLASSES
from tests.engine import in_this_process
from tests.studies import Studies
from tests.tuning.test_whole_studies import COMPARE

NOTEBOOK = Path(__file__).parents[2] / "docs" / "study.ipynb"

SMALL: dict[str, Any] = {
    **{"quick": True, "no_track": True, "quiet": True, "device": "cpu", "precision": "fp32"},
    **{"records": "records", "split": "split.toml", "name": None},
}


def test_the_notebook_runs_from_a_study_to_a_figure(studies: Studies) -> None:
    (studies.folder / "small.toml").write_text(COMPARE)
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    sources[0] = sources[0].replace('"fusion_compare"', '"small.toml"')
    sources[0] = sources[0].replace('{"quick": True}', repr(SMALL))
    seen: dict[str, Any] = {}
    with chdir(studies.folder), in_this_process():
        for source in sources:
            exec(source, seen)
        with pytest.raises(UsageError, match="there is no study 'none'"):
            api.open("none")
        for no_study in ("/", "/tmp"):
            with pytest.raises(UsageError, match=f"^study '{no_study}': is no folder of a study"):
                api.open(no_study)
        with pytest.raises(UsageError, match="unrecognized arguments: --no-option"):
            api.run("small.toml", no_option=1)
        with pytest.raises(UsageError, match="^help: runs no study that could be returned; give"):
            api.run("small.toml", help=True)
    study = api.open(studies.folder / "studies" / "small-quick")
    assert (studies.folder / "film.png").stat().st_size > 1000
    assert set(study.trials["arm"]) == {"film", "film_placebo", "concat"}
    assert list(study.comparison()["first"]) and study.page().exists()
    film = study.predictions("film")
    assert set(film["label"]) <= set(CLASSES)
    assert film[list(CLASSES)].sum(axis=1).round(4).eq(1).all()
    with pytest.raises(UsageError, match=r"unknown arm 'flim'.*Did you mean 'film'"):
        study.predictions("flim")
