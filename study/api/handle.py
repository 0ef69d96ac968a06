"""A study for Python code: tables as data frames, and its page.

The commands do the work; the current folder is the workspace.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd

from study import report
from study import run as command
from study.errors import StudyStateError, UsageError, unknown
from study.keys import CLASSES
from study.reporting.page.page import PAGE
from study.store import study as store
from study.store.folder import PAIRS, STUDIES
from study.store.trials import trials_csv
from study.training.metrics import mean_probability

_WITHOUT_STUDY = ("help", "dry_run")
"""Options that print and run nothing."""

Setting = str | int | float | bool | Path | list[str] | list[Path] | None
"""Value of an option: True gives a flag, None nothing, a list the option again for each."""


class Study:
    """A study, as it was when it was opened."""

    def __init__(self, records: store.Study) -> None:
        self._records = records

    @property
    def name(self) -> str:
        """Its name."""
        return self._records.name

    @property
    def folder(self) -> Path:
        """Its folder."""
        return self._records.folder

    @property
    def trials(self) -> pd.DataFrame:
        """Its settled trials, a row each, with the columns of trials.csv."""
        return pd.read_csv(io.StringIO(trials_csv(self._records.rows)))

    def predictions(self, arm: str) -> pd.DataFrame:
        """Return the out-of-fold predictions of an arm's trial, a row for each beat that has any.

        The trial is the first draw of a comparison, or the best of a search. Probabilities N, S, V
        and F are means over its seeds.

        Raises:
            UsageError: If there is no such arm with a complete trial.
            StudyStateError: If its file is gone or damaged.
        """
        arms = self._records.arm_trials
        if arm not in arms:
            raise UsageError(unknown("arm", arm, arms))
        beats = self._records.beats
        log_probs = self._records.predictions(arms[arm])["log_probs"]
        names = np.asarray(beats.record_names)
        labels = np.asarray(CLASSES)
        frame = pd.DataFrame(mean_probability(log_probs), columns=list(CLASSES))
        frame.insert(0, "record", names[beats.record])
        frame.insert(1, "label", labels[beats.label])
        return frame.dropna().reset_index(drop=True)

    def comparison(self) -> pd.DataFrame:
        """Return the differences of each pair of arms, with intervals and p: pairs.csv.

        Raises:
            StudyStateError: If there are none: it is a search, or its comparison did not end.
        """
        path = self.folder / PAIRS
        if not path.exists():
            raise StudyStateError(
                f"study '{self.name}': has no {PAIRS}: only a comparison has one"
            )
        return pd.read_csv(path)

    def page(self) -> Path:
        """Write the page of its results, and return the file."""
        folder = self.folder / report.REPORT
        report.write_page(self._records, folder, lambda text: None)
        return folder / PAGE


def open(study: str | Path) -> Study:
    """Return a study, finished or not: one of this folder by its name, any by its folder's path.

    The folder lies in a folder `studies`, as every start makes it.

    Raises:
        UsageError: If there is no such study.
        StudyStateError: If its records cannot be read.
    """
    path = Path(str(study))
    folder = (Path(STUDIES, path) if len(path.parts) == 1 else path).absolute()
    if folder.parent.name != STUDIES:
        raise UsageError(
            f"study '{study}': is no folder of a study: give the name of a study in ./{STUDIES}, "
            f"or the path of a folder that lies in a folder '{STUDIES}'"
        )
    return Study(store.Study.open(folder.parents[1], folder.name).readable())


def run(space: str | Path, **settings: Setting) -> Study:
    """Run a study as `python -m study.run --space SPACE` does, and return it.

    Args:
        space: A space by name, or a .toml file.
        settings: Options of that command by name: `epochs=1`, `no_track=True`, `plugin=["a.py"]`.

    Raises:
        UsageError: If a setting leaves no study to return.
        StudyError: What the command would print as an error.
    """
    if prints := [name for name in _WITHOUT_STUDY if settings.get(name)]:
        raise UsageError(
            f"{', '.join(prints)}: runs no study that could be returned; give it to `python -m "
            "study.run`"
        )
    words = ["--space", str(space)]
    for name, value in settings.items():
        option = f"--{name.replace('_', '-')}"
        if value is None or isinstance(value, bool):
            words += [option] if value else []
        else:
            values = value if isinstance(value, list) else [value]
            words += [word for one in values for word in (option, str(one))]
    return open(command.start(words))
