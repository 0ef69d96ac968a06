"""Published results on DS2, each with how its settings were selected, where that is known."""

from __future__ import annotations

from dataclasses import dataclass

from study.reporting.page.blocks import Note, Section, Table, Tone, text
from study.reporting.page.results import StudyResults


@dataclass(frozen=True, slots=True)
class Published:
    """One published result; figures as printed, in %.

    Args:
        work: Authors and year, or repository.
        classes: Number of classes.
        s: S: sensitivity / positive predictivity / F1.
        v: V: the same.
        other: Accuracy, macro figures, AUPRC.
        selection: What settings or checkpoints were chosen on.
        flag: Whether DS2 was used to choose.
        source: Where the figures were read.
    """

    work: str
    classes: str
    s: str
    v: str
    other: str
    selection: str
    flag: str
    source: str


_UNKNOWN = "no validation set is named apart from DS2"
_YES, _NO, _OPEN = "selected on DS2", "DS1 only", "not stated"

LITERATURE = (
    Published(
        "de Chazal, O'Dwyer & Reilly 2004",
        "5",
        "76 / 39 / 51",
        "78 / 82 / 80",
        "accuracy 86",
        "DS1, by cross-validation",
        _NO,
        "doi:10.1109/TBME.2004.827359, as quoted",
    ),
    Published(
        "Llamedo & Martinez 2011",
        "3",
        "77 / 39 / 52",
        "81 / 87 / 84",
        "accuracy 93",
        _UNKNOWN,
        _OPEN,
        "doi:10.1038/s41598-017-09837-3, table 5",
    ),
    Published(
        "Zhang 2014", "4", "-", "-", "accuracy 88, mean Se 87", _UNKNOWN, _OPEN, "as quoted"
    ),
    Published(
        "Lin & Yang 2014",
        "3",
        "81 / 31 / 45",
        "86 / 73 / 79",
        "accuracy 93",
        _UNKNOWN,
        _OPEN,
        "doi:10.1038/s41598-017-09837-3, table 5",
    ),
    Published(
        "Garcia 2017",
        "3",
        "62 / 53 / 57",
        "87 / 59 / 71",
        "accuracy 92",
        _UNKNOWN,
        _OPEN,
        "doi:10.1038/s41598-017-09837-3",
    ),
    Published(
        "Mondejar-Guerra 2019",
        "4",
        "-",
        "-",
        "accuracy 94.5, mean Se 70",
        "asked in public, not answered",
        _OPEN,
        "github.com/mondejar/ecg-classification",
    ),
    Published(
        "Mousavi & Afghah 2019",
        "3",
        "89 / 93 / 91",
        "100 / 100 / 100",
        "-",
        "its code evaluates on DS2 every 10 epochs",
        _YES,
        "PMC7570975 and its code",
    ),
    Published(
        "Sellami & Hwang 2019",
        "5",
        "82 / 30 / 44",
        "-",
        "accuracy 88, mean Se 91",
        _UNKNOWN,
        _OPEN,
        "abstract",
    ),
    Published(
        "Niu 2020",
        "3",
        "F1 77",
        "F1 90",
        "accuracy 96",
        _UNKNOWN,
        _OPEN,
        "doi:10.1109/JBHI.2019.2942938",
    ),
    Published(
        "DAEAC 2021",
        "4",
        "not found",
        "not found",
        "-",
        "its code keeps the checkpoint with the best S F1 on the test records",
        _YES,
        "github.com/chenmingTHU/DAEAC",
    ),
    Published("Xu 2022", "3", "F1 83", "F1 92", "accuracy 98.5", _UNKNOWN, _OPEN, "abstract"),
    Published(
        "Farag 2023",
        "3",
        "Se 85",
        "Se 96",
        "accuracy 98, macro F1 92",
        _UNKNOWN,
        _OPEN,
        "PMC9919183",
    ),
    Published(
        "Cai 2024",
        "5",
        "89 / 52 / 66",
        "-",
        "F: 77 / 14 / 24",
        _UNKNOWN,
        _OPEN,
        "abstract",
    ),
    Published(
        "h4xryu, cross-attention",
        "4",
        "AUPRC 18.5",
        "AUPRC 93.4",
        "macro AUPRC 54, macro AUROC 90",
        "5 records of DS1",
        _NO,
        "its TensorBoard files; the paper's tables print single runs",
    ),
    Published(
        "softmax regression on RR and shape",
        "4",
        "AUPRC 38.8",
        "AUPRC 94.0",
        "macro AUPRC 60, macro AUROC 96",
        "nothing was selected",
        _NO,
        "fixed settings, all of DS1",
    ),
)
"""What is known of published results on DS2; none of the papers gives AUPRC."""


def literature(results: StudyResults) -> Section:
    """Return the section; it is the same for every study."""
    flagged = sum(work.flag == _YES for work in LITERATURE)
    open_ = sum(work.flag == _OPEN for work in LITERATURE)
    return Section(
        anchor="literature",
        title="Literature",
        blocks=[
            Note(
                "These are figures on DS2, and this page's are cross-validated on DS1: the two "
                "levels do not compare. One record (232) holds 75 % of the S beats of DS2.",
                Tone.WARNING,
            ),
            Table(
                name="literature",
                title="Published results on DS2",
                shows=(
                    "Inter-patient results with the split of de Chazal et al.: Se / +P / F1 in %, "
                    "beats pooled, as printed or computed from Se and +P."
                ),
                reading=(
                    f"{flagged} selected on DS2, which makes their figures upper bounds; of "
                    f"{open_} it is not stated what they selected on. Only rows marked DS1 only "
                    "are estimates of what happens on new patients."
                ),
                header=["work", "classes", "S", "V", "other", "chosen on", "flag", "source"],
                rows=[
                    [
                        text(work.work),
                        text(work.classes),
                        text(work.s),
                        text(work.v),
                        text(work.other),
                        text(work.selection),
                        text(work.flag),
                        text(work.source),
                    ]
                    for work in LITERATURE
                ],
                text_columns=(1, 2, 3, 4, 5, 6, 7),
            ),
        ],
    )
