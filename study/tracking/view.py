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


def view_tag(study: str, stage: str = "validation") -> tuple[str, str]:
    """Return name and value of the experiment tag that holds a study's view.

    Args:
        study: Name of the study.
        stage: Value of the runs' tag `stage`: a test has metrics of its own.
    """
    quote = '"' if "'" in study else "'"
    terms = {Tag.STUDY: f"{quote}{study}{quote}", Tag.KIND: "'trial'"}
    # What was pruned or screened has scores too, of fewer epochs: not in one table with the rest.
    terms[Tag.OUTCOME] = f"'{Outcome.COMPLETE}'"
    scores = [AUPRC_SV, AUPRC_MACRO, AUROC_MACRO]
    if stage != "validation":
        scores = [name.replace("val_", "test_", 1) for name in scores]
    state = {
        "searchFilter": " and ".join(f"tags.{name} = {value}" for name, value in terms.items()),
        "orderByKey": f"metrics.`{scores[0]}`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": [f"metrics.`{name}`" for name in scores]
        + [f"params.`{name}`" for name in COLUMNS],
    }
    return f"mlflow.sharedViewState.{view_key(study)}", json.dumps(state)
