"""The sink that keeps nothing stands in for any other."""

from __future__ import annotations

import inspect

import pytest

from study.keys import Outcome
from study.tracking.mlflow_sink import MlflowSink
from study.tracking.sink import NullSink, Sink

CALLS = [name for name in vars(Sink) if not name.startswith("_")]


def test_null_sink_takes_a_whole_study() -> None:
    sink: Sink = NullSink()
    sink.open_study("s", params={}, tags={})
    run_id = sink.open_trial("d", number=0, params={}, tags={})
    sink.log_epoch(run_id, 1, {"val_auprc_sv": 0.5})
    sink.close_trial(run_id, outcome=Outcome.COMPLETE, cause="", metrics={})
    sink.add_floor("f", name="floor", params={}, tags={}, metrics={})
    sink.close_study(outcome="complete", metrics={})
    assert sink.where() == "tracking: off"


@pytest.mark.parametrize("sink", [NullSink, MlflowSink])
@pytest.mark.parametrize("call", CALLS)
def test_sinks_have_the_signatures_of_the_protocol(sink: type, call: str) -> None:
    assert inspect.signature(getattr(sink, call)) == inspect.signature(getattr(Sink, call))
