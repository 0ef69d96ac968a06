"""What an arm is given, and what of the record it needs for that, in words."""

from __future__ import annotations

from study.config import TrialConfig
from study.reporting.arms import facts_of

TRAILING = "the template trailing: median of up to 64 beats before, causal"
DEVIATION = {"morphology": "deviation", "late_rr": "log_causal"}
DISTANCES = {"late_shape": "distances", "late_rr": "log_causal"}


def test_what_an_arm_needs() -> None:
    for values, reference, look_ahead in (
        ({**DEVIATION, "template": "trailing"}, f"deviation from {TRAILING}", "none"),
        (
            {**DISTANCES, "template": "learning", "morphology": "both"},
            "beat, deviation, distances from the template learning: median beat of the first five "
            "minutes, needs the first five minutes",
            "needs the first five minutes",
        ),
        # It sees no ECG: only the distances count.
        (
            {**DISTANCES, "template": "trailing", "morphology": "both", "fusion": "rr_only"},
            f"distances from {TRAILING}",
            "none",
        ),
        ({"late_rr": "log8"}, "", "looks one beat ahead; needs the whole record"),
    ):
        base = {"input": "opt1", "segmentation": "beat", "fusion": "film"}
        facts = facts_of({"arm": TrialConfig.from_flat(base | values)})["arm"]
        assert (facts.reference, facts.look_ahead) == (reference, look_ahead)
