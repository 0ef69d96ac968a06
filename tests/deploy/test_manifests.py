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
HEAD = {*"enableIngress headService labels rayStartParams resources serviceType template".split()}
WORKERS = set(
    """groupName idleTimeoutSeconds labels maxReplicas minReplicas numOfHosts rayStartParams
    replicas resources scaleStrategy suspend template""".split()
)
"""Fields by https://ray-project.github.io/kuberay/reference/api/."""


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def test_ray_accepts_its_cluster_file_in_which_every_ray_has_the_token() -> None:
    config = load("ray-cluster.yaml")
    validate_config(prepare_config(config))
    with pytest.raises(jsonschema.ValidationError, match="'file_mount' was unexpected"):
        validate_config(prepare_config({**config, "file_mount": {}}))
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all(words.startswith("RAY_AUTH_MODE=token ") for words in starts)
    (head,) = [words for words in starts if "--head" in words]
    assert "--dashboard-host=127.0.0.1" in head.split()
    assert config["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]


def ray_job() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the job, and its groups of nodes: that of the head first."""
    job = load("rayjob.yaml")
    nodes = job["spec"]["rayClusterSpec"]
    return job, [nodes["headGroupSpec"], *nodes["workerGroupSpecs"]]


def test_a_ray_job_has_the_fields_that_kuberay_knows() -> None:
    job, groups = ray_job()
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
    for group in groups:
        # Kubernetes takes text here, which YAML would read as numbers.
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())


def test_a_ray_job_goes_on_from_its_volume_with_the_token_and_without_privilege() -> None:
    job, groups = ray_job()
    assert job["spec"]["backoffLimit"] > 0
    assert "cd /workspace && exec /app/deploy/study.sh " in job["spec"]["entrypoint"]
    assert "--storage /workspace/" in job["spec"]["entrypoint"]
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    for group in groups:
        pod = group["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert mounted["workspace"] == "/workspace"
        assert set(mounted) == {volume["name"] for volume in pod["volumes"]}


def test_the_image_has_a_version_what_is_let_in_and_an_unprivileged_user() -> None:
    text = re.sub("^#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    names = [name for name, *_ in lines]
    assert set(names) <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "CMD"}
    ((image,),) = [words for name, *words in lines if name == "FROM"]
    assert re.fullmatch(r"[a-z]+:\d+\.\d+-[a-z-]+", image)
    n_after_run = names[::-1].index("RUN")
    assert ["USER", "1000"] in lines[len(lines) - n_after_run :]
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text()
    let_in = re.findall("^!(.+)$", ignored, re.MULTILINE)
    copied = [source for name, *words in lines if name == "COPY" for source in words[:-1]]
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
