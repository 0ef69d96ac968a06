"""Resources of a trial: what is derived and what is refused."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import ray._private.utils

from study.errors import StudyStateError, UsageError
from study.tuning import ray_tune
from study.tuning.ray_session import STARTS, ray_session
from study.tuning.ray_tune import slots
from study.tuning.resources import Demand, Resources, gpu_share, plan_resources

GIB = 2**30


def test_two_trials_on_a_gpu_that_holds_them() -> None:
    shares = {gib: gpu_share(gib * GIB, need_bytes=3 * GIB) for gib in (141, 8, 6, 5, 2)}
    assert shares == {141: 0.5, 8: 0.5, 6: 0.5, 5: 1.0, 2: 1.0}


def test_what_fits_is_counted_node_by_node() -> None:
    for nodes, share, asked, expected in (
        ([(16, 2)], 0.25, None, 8),
        ([(3, 2)], 0.25, None, 3),
        ([(16, 3)], 2.0, None, 1),
        ([(16, 1)], 0.25, 2, 2),
        ([(4, 1), (4, 2), (4, 1)], 2.0, None, 1),
        ([(64, 0), (2, 4)], 1.0, None, 2),
        ([(1, 1), (8, 1)], 0.25, None, 5),
        ([(4, 0), (2, 0)], 0.0, None, 6),
    ):
        demand = Demand(device="cuda", concurrency=asked, gpus_per_trial=share)
        planned = plan_resources(demand, [{"CPU": cpu, "GPU": gpu} for cpu, gpu in nodes])
        assert planned == Resources(concurrency=expected, gpus_per_trial=share), nodes


def test_a_container_s_quota_of_cores_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")  # joblib's word for a quota
    assert plan_resources(Demand()).concurrency == 1


def test_without_shared_storage_trials_stay_on_one_node(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Resources(concurrency=2).request() == {"cpu": 1}
    resources = Resources(concurrency=2, gpus_per_trial=0.5, node="node:10.0.0.1")
    assert resources.request() == {"cpu": 1, "gpu": 0.5, "node:10.0.0.1": 0.001}
    mine = {"CPU": 3.0, "GPU": 1.0, "node:10.0.0.1": 1.0}
    joined = {"CPU": 8.0, "GPU": 4.0, "node:10.0.0.2": 1.0}
    monkeypatch.setattr(ray_tune, "nodes_alive", lambda: [mine, joined])
    assert slots(resources, Demand(gpus_per_trial=0.5))() == 2
    anywhere = Resources(concurrency=2, gpus_per_trial=0.5)
    assert slots(anywhere, Demand(gpus_per_trial=0.5))() == 10


def test_what_no_node_can_hold_is_refused() -> None:
    with pytest.raises(UsageError, match="--gpus-per-trial 0.5: there is no GPU to share"):
        plan_resources(Demand(gpus_per_trial=0.5), [{"CPU": 2}])
    with pytest.raises(UsageError, match="a trial takes 1 core and 2 GPU of one of 2 nodes"):
        plan_resources(Demand(gpus_per_trial=2.0), [{"CPU": 4, "GPU": 1}] * 2)


@pytest.fixture(autouse=True)
def _nothing_to_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ray was started; leaving it collects garbage, which takes a second in these tests."""
    monkeypatch.setattr("study.tuning.ray_session.leave_ray", lambda: None)


@pytest.mark.parametrize("address", [None, "127.0.0.1:6379"])
def test_ray_serves_no_dashboard_and_is_told_no_credential(
    monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    """What Ray is asked for, and its table of jobs, without waiting for it to start."""
    words = ["python", "-m", "study.run", "--tracking-uri=https://me:s3cr3t@host/x"]
    words += ["--study-storage", "postgresql://me:s3cr3t@host/y"]
    monkeypatch.setattr(sys, "orig_argv", words)
    given: dict[str, Any] = {}

    def init(**options: Any) -> None:
        given.update(options, line=ray._private.utils.get_entrypoint_name())
        raise ConnectionError("not started")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises((ConnectionError, StudyStateError)), ray_session(Demand(), address, 0):
        pass
    assert given["line"].startswith("python -m study.run --tracking-uri=https://")
    assert "s3cr3t" not in given["line"] and "host/y" in given["line"]
    assert given["address"] == (address or "local")
    # A cluster's dashboard is that of whoever started it; `ray start` binds it to loopback.
    assert given.get("include_dashboard", False) is False
    assert (address is None) == ("include_dashboard" in given)
    assert not {"dashboard_host", "_node_ip_address"} & given.keys()


def test_a_ray_that_does_not_start_is_tried_three_times(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def init(**options: Any) -> None:
        tries.append(options["_temp_dir"])
        if len(tries) != STARTS:
            raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with ray_session(Demand(), None, 0):
        assert len(set(tries)) == STARTS
    with pytest.raises(StudyStateError, match="Ray did not start, 3 times .The current node"):
        with ray_session(Demand(), None, 0):
            pass
