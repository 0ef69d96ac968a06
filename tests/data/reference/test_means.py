"""What a page draws of templates: means by class, of classes with beats enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from study.data.beat_set import Reference
from study.data.reference.means import record_to_draw, template_means
from study.store.beats_file import read_template_means, write_template_means
from tests.builders import bare_beats


def test_means_by_class_leave_out_classes_whose_beats_could_be_told(tmp_path: Path) -> None:
    # N S V F by record: b has S and V both, c has more of one.
    beats = bare_beats([[9, 0, 7, 0], [5, 6, 5, 4], [9, 1, 90, 0]])
    assert record_to_draw(beats) == 1
    deviation = np.tile(beats.label[:, None], 3).astype(np.float32)
    reference = Reference(
        template="record", deviation=deviation, distances=deviation[:, :2], recut=None
    )
    windows, label = deviation[16:36] + 1, beats.label[16:36]
    seen = replace(beats, reference=reference)
    made = template_means("beat/antialiased/record", seen, "b", windows, windows, label)
    write_template_means(tmp_path, [made])
    (read,) = read_template_means(tmp_path)
    assert (read.cut, read.record) == ("beat/antialiased/record", "b")
    assert read.n.tolist() == [23, 7, 102, 4] and read.n_of_record.tolist() == [5, 6, 5, 4]
    assert read.deviation[:3, 0].tolist() == [0, 1, 2] and not read.spread[:3].any()
    assert read.beat[:3, 0].tolist() == [1, 2, 3]
    # (5 * 1 + 6 * 2 + 5 * 3 + 4 * 4) / 20
    np.testing.assert_allclose(read.template, 2.4)
    # Four beats of F: their mean would tell much of each.
    assert np.isnan(read.deviation[3]).all() and np.isnan(read.beat[3]).all()
    assert read_template_means(tmp_path / "none") == []
