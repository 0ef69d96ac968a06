"""Where the figures come from: fingerprints, commit, versions, device, times."""

from __future__ import annotations

from study.reporting.page.blocks import Section, Table, missing, text
from study.reporting.page.results import StudyResults


def provenance(results: StudyResults) -> Section:
    """Return the section."""
    plan = results.plan
    seconds = [row.seconds for row in results.rows if row.duplicate_of is None]
    facts: dict[str, object] = {
        "study": results.name,
        "space": f"{plan.get('space')} ({plan.get('space_digest')})",
        "records": plan.get("data_source"),
        **{f"beats, {cut}": mark for cut, mark in dict(plan["data_fingerprints"]).items()},
        "folds": plan.get("fold_fingerprint"),
        "study package": plan.get("version"),
        **results.provenance,
        "trial time": f"{sum(seconds) / 3600:.2f} h in all, {max(seconds):.0f} s the longest"
        if seconds
        else None,
        "page written": results.written,
    }
    blocks = [
        Table(
            name="provenance",
            title="What these figures come from",
            shows="Digests of records, beats and folds, and what computed the trials.",
            reading="Two studies with equal fingerprints saw the same beats in the same folds.",
            header=["what", "value"],
            rows=[[text(name), text(value)] for name, value in facts.items()],
            text_columns=(1,),
        )
    ]
    if results.provenance:
        return Section(anchor="provenance", title="Provenance", blocks=blocks)
    why = results.why("provenance", "the study's run was not found in the tracker")
    return Section(
        anchor="provenance",
        title="Provenance",
        blocks=[*blocks, missing("No commit, versions and device", why)],
    )
