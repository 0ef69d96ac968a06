"""A prepared table in MLflow's UI: a study's finished trials, scores beside what was searched.

MLflow keeps shared views as experiment tags. Their form is not documented (tried with 3.17): a
UI that does not know it says so and shows its default table, and nothing else depends on it.
"""

from __future__ import annotations

import json
import re

from study.keys import AUPRC_MACRO, AUPRC_SV, AUROC_MACRO, Outcome, Tag

COLUMNS = ("input", "fusion", "heads", "gate", "gate_init", "embed_dim")
"""Parameters shown beside the scores."""


def view_key(study: str) -> str:
    """Return what a link names a study's view by: MLflow allows few characters in a tag's name."""
    return re.sub(r"[^\w\-. ]", "_", study)


def view_tag(study: str) -> tuple[str, str]:
    """Return name and value of the experiment tag that holds a study's view."""
    quote = '"' if "'" in study else "'"
    terms = {Tag.STUDY: f"{quote}{study}{quote}", Tag.KIND: "'trial'"}
    # Pruned trials have scores too, of fewer epochs: not in one table with finished ones.
    terms[Tag.OUTCOME] = f"'{Outcome.COMPLETE}'"
    scores = (AUPRC_SV, AUPRC_MACRO, AUROC_MACRO)
    state = {
        "searchFilter": " and ".join(f"tags.{name} = {value}" for name, value in terms.items()),
        "orderByKey": f"metrics.`{AUPRC_SV}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"metrics.`{name}`" for name in scores]
        + [f"params.`{name}`" for name in COLUMNS],
    }
    return f"mlflow.sharedViewState.{view_key(study)}", json.dumps(state)
