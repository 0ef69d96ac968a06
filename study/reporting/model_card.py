"""A model's card: what it is, what it was trained on, how well it does, what it is not for.

Its headings follow Mitchell et al. 2019, "Model cards for model reporting"
(doi:10.1145/3287560.3287596).

Shapes: S seeds, N beats, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from study.data.catalogue import CATALOGUE, Database
from study.data.reference.templates import template_text
from study.keys import CLASSES, Tag
from study.models import rules
from study.models.seed_ensemble import SeedEnsemble, tempered
from study.reporting.table import Column, Kind, Table, interval_text
from study.statistics.calibration import brier_score, fit_temperature, log_loss
from study.statistics.comparison import compare
from study.statistics.findings import ArmResult, ClassFacts, label_of
from study.statistics.predictions import ArmRuns, Beats
from study.training.metrics import confusion_matrix, precision, sensitivity
from study.wording import SYNTHETIC_MODEL, listing, plural, score_text

_LIMITS = (
    "No diagnosis: it is a research tool, no medical device, and was tried in no patient's care.",
    "The intervals above say how much other patients to score would change the figures; other "
    "patients to train on would change them too.",
    "An arm that was chosen by its scores on these same patients has figures that are somewhat "
    "too good.",
    "It takes R peaks as given. A detector's misses and extra peaks change the RR intervals of "
    "the neighbours too, and cost more than the figures say.",
    "Beats of class Q, paced ones among them, were not learnt: it calls such beats N, S, V or F.",
    "S is any supraventricular ectopic beat. In atrial fibrillation every interval is early or "
    "late, and rhythm does not tell S from N.",
    "Classes with few effective patients in the table rest on these: do not rely on them.",
)
"""Limits of every model, whatever it was trained on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What an arm's out-of-fold predictions say, and the temperature that they give."""

    result: ArmResult  # of single networks, within folds
    classes: tuple[ClassFacts, ...]  # what its scores rest on
    n_patients: int
    n_seeds: int
    n_partitions: int
    label: NDArray[np.int64]  # [N] of the beats in folds
    raw: NDArray[np.float32]  # [N, C] mean probability over seeds
    # [N, C] the same with the temperature of the other folds of the first partition
    calibrated: NDArray[np.float32]
    temperature: float  # fitted on all of them

    @property
    def warning(self) -> str:
        """What is wrong with the calibration; empty where it serves."""
        raw, calibrated = (log_loss(p, self.label) for p in (self.raw, self.calibrated))
        if calibrated <= raw:
            return ""
        return (
            f"calibration made the log loss worse, {raw:.3f} as trained and {calibrated:.3f} "
            "calibrated: a temperature of some patients does not suit others"
        )


def evidence(beats: Beats, runs: ArmRuns, objective: str) -> Evidence:
    """Score an arm's predictions, and fit and test a temperature.

    The temperature is for the mean probability over seeds. It is tested on each fold of the first
    partition, with the temperature that the other folds give.
    """
    compared = compare(beats, [runs], objective=objective, choosing=False)
    held_out = beats.held_out[beats.record]
    raw = np.exp(runs.log_probs[:, held_out]).mean(axis=0)
    label = beats.label[held_out]
    fold = np.asarray(beats.folds_of_record[0])[beats.record[held_out]]
    calibrated = np.empty(raw.shape, dtype=np.float32)
    for number in np.unique(fold):
        here = fold == number
        calibrated[here] = tempered(raw[here], fit_temperature(raw[~here], label[~here]))
    return Evidence(
        result=compared.arms[0],
        classes=compared.classes,
        n_patients=len(beats.patients),
        n_seeds=len(np.unique(runs.seed)),
        n_partitions=beats.n_partitions,
        label=label,
        raw=raw,
        calibrated=calibrated,
        temperature=fit_temperature(raw, label),
    )


def model_card(
    ensemble: SeedEnsemble, found: Evidence, databases: Sequence[str], *, size: int
) -> str:
    """Return the card as Markdown, of a file of `size` bytes trained on `databases`, if any."""
    signal, about = ensemble.config.signal, ensemble.about
    template = ""
    if rules.uses_template(ensemble.config):
        template = f" The patient's usual beat is {template_text(signal.template)}."
    parameters = sum(p.numel() for p in ensemble.models[0].parameters())
    settings = ", ".join(f"{k} {v}" for k, v in rules.active_parameters(ensemble.config).items())
    known = [CATALOGUE[name] for name in databases]
    limits = [*_LIMITS, *(limit for database in known for limit in _limits_of(database))]
    if about[Tag.DATA_SOURCE] == "synthetic":
        limits.insert(0, f"It was {SYNTHETIC_MODEL}.")
    elif not known:
        limits.append(
            "It has seen the leads and sampling rates of these records alone. Others are read and "
            "resampled, and untried."
        )
    return "\n".join(
        [
            f"# Model card: {rules.arm(ensemble.config)}",
            "",
            "Tells for each beat of an ECG how probable the AAMI classes N, S, V and F are. "
            "**It is no diagnosis.**",
            "",
            "## Model",
            "",
            f"- Mean probability of {len(ensemble.models)} networks of {parameters:,} parameters, "
            f"trained from different seeds; {size / 1000:.0f} kB, weights in half precision. "
            "Nothing in the file is executed.",
            f"- Input: {rules.rr_routes(ensemble.config).text()}.{template}",
            f"- Settings: {settings}.",
            f"- Calibrated by a temperature of {found.temperature:.2f} (Guo et al. 2017, "
            "https://arxiv.org/abs/1706.04599), which leaves the most probable class as it is.",
            f"- Made by `python -m study.champion --study {about['study']} --arm "
            f"{about['study_arm']} --seeds {len(ensemble.models)}`.",
            "",
            "## Data and licence",
            "",
            f"Trained on {about['trained_on']}.",
            "",
            *(_licence(database) for database in known),
            *_figures(found),
            "",
            "## Limits",
            "",
            *(f"- {limit}" for limit in limits),
            "",
        ]
    )


def _limits_of(database: Database) -> Iterator[str]:
    """Yield the limits of a model that was trained on a database."""
    if database.has_split:
        yield (
            f"These networks were not scored on the sealed {database.names[1]}; docs/results.md "
            "says which arms were."
        )
    yield (
        f"Of the {database.title} it has seen one lead of each record at "
        f"{database.sampling_rate_hz:g} Hz, the first that is there of "
        f"{listing(database.leads)}. Others are read and resampled, and untried."
    )


def _licence(database: Database) -> str:
    return (
        f"The weights are derived from the {database.title} {database.version} "
        f"({database.citation}; doi:{database.doi}), which PhysioNet makes available under the "
        f"{database.licence}. Whoever passes them on must keep this notice. The code that reads "
        "them is under the MIT licence.\n"
    )


def _figures(found: Evidence) -> list[str]:
    result = found.result
    seeds = plural(found.n_seeds, "seed")
    if found.n_partitions > 1:
        seeds += f" over {found.n_partitions} partitions into folds"
    means = [
        f"{label_of(name)} {interval_text(result.estimates[name])}" for name in ("sv", "macro")
    ]
    spreads = [
        f"{score_text(sd)} over {what}"
        for what, sd in (("seeds", result.sd_seeds), ("partitions", result.sd_partitions))
        if np.isfinite(sd)
    ]
    losses = [
        f"{name}: log loss {log_loss(probs, found.label):.3f}, Brier score "
        f"{brier_score(probs, found.label):.4f}"
        for name, probs in (("as trained", found.raw), ("calibrated", found.calibrated))
    ]
    return [
        _table(found, seeds).markdown(),
        "",
        f"AUPRC {'; '.join(means)}. Standard deviation of S+V: {', '.join(spreads) or 'unknown'}.",
        "",
        f"Calibration, of the mean probability over seeds: {'; '.join(losses)}. Each fold of the "
        "first partition is at the temperature of the others."
        + (f" **Warning: {found.warning}.**" if found.warning else ""),
    ]


def _table(found: Evidence, seeds: str) -> Table:
    decided = found.calibrated.argmax(axis=1)
    n = len(CLASSES)
    confusion = confusion_matrix(found.label, decided, n_rows=n, n_columns=n)
    se, ppv = sensitivity(confusion), precision(confusion)
    mean = found.calibrated.mean(axis=0)
    return Table(
        name="figures",
        title="Figures",
        shows=f"Out of fold, on {found.n_patients} patients who took no part in the training of "
        f"the network that is scored: n = {len(found.label):,} beats, {seeds}. AUPRC with its "
        "95 % interval over patients and seeds is of single networks, within folds.",
        reading="Se and +P are of the most probable class of the mean over seeds, all beats "
        "together.",
        columns=[
            Column("class", Kind.NAME),
            Column("beats", Kind.COUNT),
            Column("records", Kind.COUNT),
            Column("effective patients", Kind.COUNT, digits=1),
            Column("AUPRC", Kind.INTERVAL),
            Column("chance"),
            Column("Se"),
            Column("+P"),
            Column("mean probability"),
        ],
        rows=[
            [
                fact.name,
                fact.beats,
                fact.records,
                fact.effective_patients,
                found.result.estimates[fact.name],
                fact.chance,
                float(se[c]),
                float(ppv[c]),
                float(mean[c]),
            ]
            for c, fact in enumerate(found.classes)
        ],
    )
