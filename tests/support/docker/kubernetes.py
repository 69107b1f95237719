"""The resources of docker/kubernetes: each file's, and each as an overlay changes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.docker.tools import DOCKER

HOME = DOCKER / "kubernetes"
#: Of other projects: no schema of Kubernetes knows them.
FOREIGN = {"ScaledObject", "PodMonitor"}


def files() -> list[Path]:
    return sorted(path for path in HOME.rglob("*.yaml") if path.name != "kustomization.yaml")


def resources(*paths: Path) -> list[dict[str, Any]]:
    """Return what stands in these files, or in all."""
    chosen = paths or tuple(files())
    return [resource for path in chosen for resource in yaml.safe_load_all(path.read_text())]


def resource(kind: str, name: str) -> dict[str, Any]:
    return next(
        found for found in resources() if (found["kind"], found["metadata"]["name"]) == (kind, name)
    )


def pods() -> dict[str, dict[str, Any]]:
    """Return the pods' descriptions by the names of what makes them."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]
        for found in resources()
        if found["kind"] in {"Deployment", "Job"}
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", ()), *pod["containers"]]
