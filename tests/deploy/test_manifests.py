"""What is started on clusters: Ray's own check of its file, and the forms of the others."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

RAY_JOB = set(
    """activeDeadlineSeconds backoffLimit clusterSelector deletionStrategy entrypoint
    entrypointNumCpus entrypointNumGpus entrypointResources jobId managedBy metadata
    preRunningDeadlineSeconds rayClusterSpec runtimeEnvYAML shutdownAfterJobFinishes
    submissionMode submitterConfig submitterPodTemplate suspend ttlSecondsAfterFinished""".split()
)
RAY_CLUSTER = set(
    """authOptions autoscalerOptions enableInTreeAutoscaling gcsFaultToleranceOptions
    headGroupSpec headServiceAnnotations managedBy rayVersion suspend upgradeStrategy
    workerGroupSpecs""".split()
)
HEAD = set(
    "enableIngress headService labels rayStartParams resources serviceType template".split()
)
WORKERS = set(
    """groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams
    replicas resources scaleStrategy suspend template""".split()
)
"""Fields by https://ray-project.github.io/kuberay/reference/api/."""


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def cluster(**changed: Any) -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config({**load("ray-cluster.yaml"), **changed})
    return prepared


def test_ray_accepts_its_cluster_file_and_no_key_that_it_does_not_know() -> None:
    validate_config(cluster())
    with pytest.raises(jsonschema.ValidationError, match="'file_mount' was unexpected"):
        validate_config(cluster(file_mount={}))


def test_every_ray_of_the_cluster_file_has_the_token_and_a_hidden_dashboard() -> None:
    config = load("ray-cluster.yaml")
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all(words.startswith("RAY_AUTH_MODE=token ") for words in starts)
    (head,) = [words for words in starts if "--head" in words]
    assert "--dashboard-host=127.0.0.1" in head.split()
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def test_a_ray_job_has_the_fields_that_kuberay_knows() -> None:
    job = load("rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert set(spec) <= RAY_JOB
    assert spec["submissionMode"] in ("K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode")
    nodes = spec["rayClusterSpec"]
    assert set(nodes) <= RAY_CLUSTER
    assert set(nodes["headGroupSpec"]) <= HEAD
    for group in nodes["workerGroupSpecs"]:
        assert set(group) <= WORKERS
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(job):
        # Kubernetes takes text here, which YAML would read as numbers.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def groups(job: dict[str, Any]) -> list[dict[str, Any]]:
    nodes = job["spec"]["rayClusterSpec"]
    return [nodes["headGroupSpec"], *nodes["workerGroupSpecs"]]


def test_a_ray_job_goes_on_from_its_volume_with_the_token_and_without_privilege() -> None:
    job = load("rayjob.yaml")
    assert job["spec"]["backoffLimit"] > 0
    assert "cd /workspace && exec /app/deploy/study.sh " in job["spec"]["entrypoint"]
    assert "--storage /workspace/" in job["spec"]["entrypoint"]
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for group in groups(job):
        pod = group["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["workspace"] == "/workspace"
        assert set(mounted) == {volume["name"] for volume in pod["volumes"]}


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions, each with its words; comments and folds resolved."""
    text = "\n".join(
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if not line.startswith("#")
    )
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(name, " ".join(rest.split())) for name, _, rest in (s.partition(" ") for s in lines)]


def test_the_image_has_a_version_and_an_unprivileged_user() -> None:
    known = {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    assert {name for name, _ in instructions()} <= known
    (image,) = [words for name, words in instructions() if name == "FROM"]
    assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z-]+", image)
    names = [name for name, _ in instructions()]
    assert dict(instructions())["USER"] == "1000"
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")


def test_the_image_copies_what_there_is_and_what_is_let_in() -> None:
    let_in = [
        line[1:]
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    copied = [
        source for name, words in instructions() if name == "COPY" for source in words.split()[:-1]
    ]
    assert sorted(copied) == sorted(let_in)
    assert [source for source in copied if not (ROOT / source).exists()] == []
    assert not any(fnmatch("data/mitdb", pattern) for pattern in let_in)


def test_every_place_names_the_ray_that_the_package_wants() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (wanted,) = [word for word in project["dependencies"] if word.startswith("ray")]
    version = wanted.partition("==")[2]
    assert f'"ray[default]=={version}"' in (DEPLOY / "Dockerfile").read_text()
    assert fnmatch(load("rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"], version)
    assert fnmatch(ray.__version__, version)
