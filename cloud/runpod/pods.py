"""Pods of RunPod, by version 2 of its REST API (https://docs.runpod.io/api-reference-v2).

Its OpenAPI document is https://api.runpod.io/v2/openapi.json. A pod's body is `pod.json`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.provider import PREFIX, CloudWorker, Life, new_name, read_body
from cloud.rest import CloudError, Rest

ADDRESS = "https://api.runpod.io"
BODY = Path(__file__).with_name("pod.json")
#: A stopping worker has its own DRAIN_SECONDS and 15 more.
DRAIN_SECONDS = 90.0
POLL_SECONDS = 2.0
_ALIVE = ("PROVISIONING", "STARTING", "RUNNING")
_FAILED = ("EXITED", "ERROR")
_NOT_FOUND, _CONFLICT = 404, 409


def describe(problem: Mapping[str, Any]) -> str:
    """Return a problem of RFC 9457 as one line."""
    return " ".join([str(problem["detail"]), *map(str, problem.get("errors") or ())])


@dataclass(frozen=True, slots=True)
class RunPod:
    rest: Rest
    body: Path = BODY

    def list(self) -> Sequence[CloudWorker]:
        pods = self.rest.call("GET", "/v2/pods")["pods"]
        pods = sorted(pods, key=lambda pod: str(pod["createdAt"]))
        return [_worker(pod) for pod in pods if str(pod["name"]).startswith(PREFIX)]

    def create(self) -> str:
        body = {**read_body(self.body), "name": new_name()}
        return str(self.rest.call("POST", "/v2/pods", body)["id"])

    def drain(self, worker: CloudWorker) -> None:
        """Stop the pod, which signals its program, and wait for its end."""
        path = f"/v2/pods/{worker.id}"
        try:
            self.rest.call("POST", f"{path}/action", {"action": "stop"})
        except CloudError as error:
            if error.status == _CONFLICT:
                return  # the pod does not run
            raise
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.rest.call("GET", path)["status"] in _ALIVE:
            if time.monotonic() > deadline:
                raise CloudError(f"{worker.name} has not stopped after {DRAIN_SECONDS:g} s")
            time.sleep(POLL_SECONDS)

    def end(self, worker: CloudWorker) -> None:
        try:
            self.rest.call("DELETE", f"/v2/pods/{worker.id}")
        except CloudError as error:
            if error.status != _NOT_FOUND:
                raise

    def storage(self, name: str, place: str, gigabytes: int) -> str:
        body = {"name": name, "dataCenter": place, "size": gigabytes}
        return str(self.rest.call("POST", "/v2/network-volumes", body)["id"])

    def prices(self) -> Sequence[tuple[str, float]]:
        gpus = self.rest.call("GET", "/v2/catalog/gpus")["gpus"]
        return [(str(gpu["id"]), float(gpu["price"]["secure"])) for gpu in gpus if gpu["secure"]]


def _worker(pod: Mapping[str, Any]) -> CloudWorker:
    return CloudWorker(
        id=str(pod["id"]),
        name=str(pod["name"]),
        state=str(pod["status"]),
        life=_life(str(pod["status"])),
        address=str(pod["dataCenterId"] or ""),
        dollars_per_hour=float(pod["cost"]),
    )


def _life(status: str) -> Life:
    if status in _ALIVE:
        return Life.ALIVE
    return Life.FAILED if status in _FAILED else Life.GONE
