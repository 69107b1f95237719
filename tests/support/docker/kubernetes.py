"""The resources of docker/kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tests.support.docker.tools import DOCKER

HOME = DOCKER / "kubernetes"
#: Kinds of other projects, which Kubernetes' schemas do not have.
FOREIGN = {"ScaledObject", "PodMonitor"}


def files() -> list[Path]:
    """Return the files with resources."""
    return sorted(path for path in HOME.rglob("*.yaml") if path.name != "kustomization.yaml")


def resources(*paths: Path) -> list[dict[str, Any]]:
    """Return the resources of some files, or of all."""
    chosen = paths or tuple(files())
    return [resource for path in chosen for resource in yaml.safe_load_all(path.read_text())]


def resource(kind: str, name: str) -> dict[str, Any]:
    """Return one resource."""
    return next(
        found for found in resources() if (found["kind"], found["metadata"]["name"]) == (kind, name)
    )


def pods() -> dict[str, dict[str, Any]]:
    """Return the specification of each pod by the name of its Deployment or Job."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]
        for found in resources()
        if found["kind"] in {"Deployment", "Job"}
    }


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the containers of a pod, those of its start included."""
    return [*pod.get("initContainers", ()), *pod["containers"]]
