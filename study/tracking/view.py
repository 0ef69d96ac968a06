"""How MLflow's UI shows studies: a view of each study's trials, and the experiment's note.

A view is a table and charts prepared for MLflow's UI: finished trials and floors, with scores
beside searched parameters. MLflow does not document its form (tested with 3.17). A UI that does
not know it says so and shows its default table; nothing else depends on the view.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from study.keys import AUPRC_MACRO, AUPRC_SV, AUROC_MACRO, Outcome, Tag, metric
from study.tracking.names import metric_shown

COLUMNS = ("input", "fusion", "heads", "gate", "gate_init", "embed_dim")
"""Parameters that a study's view shows beside the scores."""

PARALLEL = ("fusion", "heads", "gate", "embed_dim")
"""Parameters of the view's parallel coordinates."""

NOTE = "mlflow.note.content"
"""Tag with the text that MLflow's UI shows as a description."""

NOTE_BEGINS = "To compare the runs of a study, open its view:"
"""First line of every note that this module writes; a note that a user wrote stays."""

_VIEW, _SECTION = "mlflow.sharedViewState.", "compare"


def quoted(value: str) -> str:
    """Quote a value for MLflow's search language, which has two kinds of quotes and no escapes."""
    return f'"{value}"' if "'" in value else f"'{value}'"


def view_address(experiment_id: str, study: str) -> str:
    """Return the address of a study's view within MLflow's UI; its charts show at once."""
    key = quote(_view_key(study))
    return f"#/experiments/{experiment_id}/runs?viewStateShareKey={key}&compareRunsMode=CHART"


def _view_key(study: str) -> str:
    """Return the key of a study's view in a link: MLflow allows few characters in a tag's name."""
    return re.sub(r"[^\w\-. ]", "_", study)


def view_tag(study: str, stage: str = "validation") -> tuple[str, str]:
    """Return name and value of the experiment tag that holds a study's view.

    `stage` is that of the runs it shows: a test has metrics of its own.
    """
    # Pruned and screened trials have scores of fewer epochs: they stay out.
    terms = [
        f"tags.{Tag.STUDY} = {quoted(study)}",
        f"tags.{Tag.KIND} != 'study'",
        f"tags.{Tag.OUTCOME} = {quoted(Outcome.COMPLETE)}",
    ]
    scores = [AUPRC_SV, metric("auprc", "S"), metric("auprc", "V"), AUPRC_MACRO, AUROC_MACRO]
    if stage != "validation":
        scores = [name.replace("val_", "test_", 1) for name in scores]
    scores = [metric_shown(name) for name in scores]
    state = {
        "searchFilter": " and ".join(terms),
        "orderByKey": f"metrics.`{scores[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"metrics.`{name}`" for name in scores]
        + [f"params.`{name}`" for name in COLUMNS],
        # By default the charts show ten runs.
        "runsHiddenMode": "SHOW_ALL",
        # One chart below the other: with three in a row nothing can be read.
        "compareRunSections": [
            {
                "uuid": "compare",
                "name": "Compare",
                "display": True,
                "columns": 1,
                "cardHeight": 400,
            }
        ],
        "compareRunCharts": _charts(scores[0]),
    }
    return f"{_VIEW}{_view_key(study)}", json.dumps(state)


def _charts(objective: str) -> list[dict[str, object]]:
    """Return the charts of a view: the objective by fusion, and parallel coordinates."""
    charts: list[dict[str, object]] = [
        {
            "type": "SCATTER",
            "displayName": "AUPRC S+V by fusion",
            "xaxis": {"key": "fusion", "type": "PARAM"},
            "yaxis": {"key": objective, "type": "METRIC"},
        },
        {
            "type": "PARALLEL",
            "displayName": "Parameters and AUPRC S+V",
            "selectedParams": list(PARALLEL),
            "selectedMetrics": [objective],
            "showAllRuns": True,
        },
    ]
    common = {"metricSectionId": _SECTION, "deleted": False, "isGenerated": False}
    return [{**common, "uuid": f"compare-{k}", **chart} for k, chart in enumerate(charts)]


def note_of(experiment_id: str, tags: Mapping[str, str]) -> str | None:
    """Return the note of an experiment, from its tags; None where a user wrote the note."""
    if not tags.get(NOTE, NOTE_BEGINS).startswith(NOTE_BEGINS):
        return None
    views = sorted(name.removeprefix(_VIEW) for name in tags if name.startswith(_VIEW))
    return "\n".join([*_note(experiment_id, views)])


def _note(experiment_id: str, studies: Iterable[str]) -> Iterable[str]:
    # A folded note shows its first line.
    links = [f"[{study}]({view_address(experiment_id, study)})" for study in studies]
    yield f"{NOTE_BEGINS} {', '.join(links)}"
    yield ""
    yield (
        "A view has the finished trials and the floors of one study. Trials that were pruned or "
        "screened have scores of fewer epochs, and are left out. Names of metrics without a group "
        "are means over classes within folds; `class/` has each class, `pooled/` the scores with "
        "all folds pooled, `patient/` those by record, and `reliance/` what is lost when RR is "
        "permuted. Only a comparison's page, among the files of its study's run, says which "
        "differences are shown."
    )
