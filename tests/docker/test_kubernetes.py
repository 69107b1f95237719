"""The manifests of docker/kubernetes, checked with Kubernetes' schemas and our settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from core.config.settings import Settings
from tests.support.docker.kubernetes import (
    FOREIGN,
    HOME,
    containers,
    files,
    pods,
    resource,
    resources,
)
from tests.support.docker.tools import run
from tests.support.paths import ROOT

#: The time of a stop beside DRAIN_SECONDS: closing connections, ending threads (worker/main.py).
STOP_SECONDS = 12
UPLOADS = {"/api/llm/batches", "/v1/files"}


def test_every_resource_is_valid(tmp_path: Path) -> None:
    ours = [found for found in resources() if found["kind"] not in FOREIGN]
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(ours))

    done = run("kubernetes-validate", "--strict", tmp_path / "all.yaml")

    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    assert output.count(" passed for resource ") == len(ours)


def test_the_validation_finds_a_fault(tmp_path: Path) -> None:
    faulty = resource("Deployment", "bountycoder-api")
    faulty["spec"]["template"]["spec"]["containers"][0]["imagePolicy"] = "Always"
    (tmp_path / "faulty.yaml").write_text(yaml.safe_dump(faulty))

    assert run("kubernetes-validate", "--strict", tmp_path / "faulty.yaml").returncode != 0


def test_every_file_belongs_to_a_kustomization() -> None:
    named = {
        path.parent / name
        for path in HOME.rglob("kustomization.yaml")
        for name in yaml.safe_load(path.read_text())["resources"]
    }

    assert set(files()) <= named
    assert [name for name in named if not name.exists()] == []


@pytest.mark.parametrize("overlay", ["production", "small"])
def test_an_overlay_changes_existing_resources(overlay: str) -> None:
    kustomization = yaml.safe_load((HOME / "overlays" / overlay / "kustomization.yaml").read_text())
    known = {(found["kind"], found["metadata"]["name"]) for found in resources()}
    images = {c["image"] for pod in pods().values() for c in containers(pod)}

    for patch in kustomization["patches"]:
        target = patch["target"]
        kinds = {kind for kind, name in known if target.get("name", name) == name}
        assert target["kind"] in kinds, target
    assert {image["name"] for image in kustomization["images"]} == images


def test_programs_have_existing_settings_and_secrets() -> None:
    known = {name.upper() for name in Settings.model_fields}
    settings = resource("ConfigMap", "bountycoder-settings")["data"]

    assert {name.removesuffix("_FILE") for name in settings} <= known
    assert [name for name in settings if name.endswith(("PASSWORD", "KEY", "DATABASE_URL"))] == []
    for name, pod in pods().items():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert volumes["secrets"]["secret"]["secretName"] == "bountycoder", name
        for container in containers(pod):
            mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounts.keys() <= volumes.keys()
            assert settings["SECRET_KEY_FILE"].startswith(mounts["secrets"] + "/")


def test_a_stop_leaves_programs_time_to_finish() -> None:
    drain = float(resource("ConfigMap", "bountycoder-settings")["data"]["DRAIN_SECONDS"])

    for name in ("bountycoder-api", "bountycoder-admin", "bountycoder-worker"):
        pod = pods()[name]
        hook = pod["containers"][0].get("lifecycle", {}).get("preStop", {})
        before = hook.get("sleep", {}).get("seconds", 0)
        assert pod["terminationGracePeriodSeconds"] >= before + drain + STOP_SECONDS
        # A web program waits until it gets no new requests; a worker gets no requests.
        assert (before > 0) == (name != "bountycoder-worker")


def test_containers_have_bounds_and_few_rights() -> None:
    for name, pod in pods().items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in containers(pod):
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys(), name
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"], name
            assert not rights["allowPrivilegeEscalation"], name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name


def test_programs_are_spread_probed_and_protected_from_eviction() -> None:
    budgets = {
        found["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
        for found in resources()
        if found["kind"] == "PodDisruptionBudget"
    }
    deployments = [found for found in resources() if found["kind"] == "Deployment"]

    assert budgets == {found["metadata"]["name"] for found in deployments}
    for found in deployments:
        spec = found["spec"]
        labels = spec["selector"]["matchLabels"]
        assert spec["template"]["metadata"]["labels"].items() >= labels.items()
        pod = spec["template"]["spec"]
        spread = pod["topologySpreadConstraints"]
        assert all(constraint["labelSelector"]["matchLabels"] == labels for constraint in spread)
        ports = {port["name"] for port in pod["containers"][0]["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            action = pod["containers"][0][probe]
            assert action.get("httpGet", {}).get("port", "metrics") in ports


def test_probes_request_existing_paths() -> None:
    paths = {
        name: {
            probe["httpGet"]["path"]
            for key, probe in pod["containers"][0].items()
            if key.endswith("Probe") and "httpGet" in probe
        }
        for name, pod in pods().items()
    }

    assert paths["bountycoder-api"] == {"/healthz"}
    assert paths["bountycoder-admin"] == {"/sign-in"}
    assert paths["bountycoder-worker"] == {"/metrics"}


def test_each_worker_has_a_gpu_and_the_queue_scales_the_workers() -> None:
    limits = pods()["bountycoder-worker"]["containers"][0]["resources"]["limits"]
    scaled = resource("ScaledObject", "bountycoder-worker")["spec"]
    documented = (ROOT / "docs" / "metrics.md").read_text()

    assert limits["nvidia.com/gpu"] == "1"
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 10)
    queries = [trigger["metadata"]["query"] for trigger in scaled["triggers"]]
    for name in ("bountycoder_queue_oldest_seconds", "bountycoder_gpu_utilization_ratio"):
        assert [query for query in queries if name in query]
        assert f"`{name}`" in documented
    web = resource("HorizontalPodAutoscaler", "bountycoder-api")["spec"]
    assert (web["minReplicas"], web["maxReplicas"]) == (2, 10)


def test_only_files_of_batches_may_be_large() -> None:
    settings = Settings.from_environment(
        {"DATABASE_URL": "postgresql://u@h/n", "REDIS_URL": "redis://h"}
    )
    patches = yaml.safe_load((HOME / "overlays/production/kustomization.yaml").read_text())
    every, uploads = (yaml.safe_load(patch["patch"]) for patch in patches["patches"])
    sizes: list[Any] = [
        every[1]["value"]["nginx.ingress.kubernetes.io/proxy-body-size"],
        uploads[0]["value"],
    ]

    assert sizes[0] == str(settings.max_body_bytes)
    assert int(sizes[1]) == settings.max_batch_bytes + 256 * 1024
    rules = resource("Ingress", "bountycoder-uploads")["spec"]["rules"]
    assert {path["path"] for path in rules[0]["http"]["paths"]} == UPLOADS
