"""Instances of Lambda, by version 1 of its Cloud API (https://docs.lambda.ai/api/cloud).

An instance's body is `instance.json`; `cloud-init.yaml` turns it into a worker for each GPU.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud.provider import PREFIX, CloudWorker, Life, new_name, read_body
from cloud.rest import CloudError, Rest

ADDRESS = "https://cloud.lambda.ai"
BODY = Path(__file__).with_name("instance.json")
CLOUD_INIT = Path(__file__).with_name("cloud-init.yaml")
#: A stopping worker has its own DRAIN_SECONDS and 15 more.
DRAIN_SECONDS = 90.0
#: The API accepts a launch every 12 seconds.
LAUNCH_SECONDS = 12.0
MAX_USER_DATA_BYTES = 1_000_000
_ALIVE = ("booting", "active")
_FAILED = ("unhealthy",)
_NOT_FOUND = 404
_SSH_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "StrictHostKeyChecking=accept-new")


def describe(response: Mapping[str, Any]) -> str:
    """Return an error of Lambda as one line."""
    error = response["error"]
    return f"{error['code']}: {error['message']}"


@dataclass(slots=True)
class Lambda:
    rest: Rest
    body: Path = BODY
    cloud_init: Path = CLOUD_INIT
    _launched_at: float | None = None

    def list(self) -> Sequence[CloudWorker]:
        """Return our instances in the API's order; the API does not report their age."""
        instances = self.rest.call("GET", "/api/v1/instances")["data"]
        return [_worker(it) for it in instances if str(it.get("name", "")).startswith(PREFIX)]

    def create(self) -> str:
        body = {**read_body(self.body), "name": new_name(), "user_data": self._user_data()}
        if self._launched_at is not None:
            time.sleep(max(0.0, self._launched_at + LAUNCH_SECONDS - time.monotonic()))
        self._launched_at = time.monotonic()
        launched = self.rest.call("POST", "/api/v1/instance-operations/launch", body)["data"]
        return str(launched["instance_ids"][0])

    def drain(self, worker: CloudWorker) -> None:
        """Stop the instance's workers by SSH: the API terminates a machine without warning.

        SSH uses its default key: from the agent, or from `~/.ssh/config`.
        """
        if not worker.address:
            raise CloudError(f"{worker.name} has no address")
        options = [f"-o{option}" for option in _SSH_OPTIONS]
        stop = "sudo systemctl stop 'bountycoder-worker@*'"
        try:
            done = subprocess.run(
                ["ssh", *options, f"ubuntu@{worker.address}", stop],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=DRAIN_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CloudError(f"{worker.name} cannot be stopped: {error}") from error
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            raise CloudError(f"{worker.name} cannot be stopped: {lines[-1]}")

    def end(self, worker: CloudWorker) -> None:
        ids = {"instance_ids": [worker.id]}
        try:
            self.rest.call("POST", "/api/v1/instance-operations/terminate", ids)
        except CloudError as error:
            if error.status != _NOT_FOUND:
                raise

    def storage(self, name: str, place: str, gigabytes: int) -> str:
        """Create a file system; it grows automatically, so `gigabytes` is ignored."""
        body = {"name": name, "region": place}
        return str(self.rest.call("POST", "/api/v1/filesystems", body)["data"]["mount_point"])

    def prices(self) -> Sequence[tuple[str, float]]:
        types = self.rest.call("GET", "/api/v1/instance-types")["data"]
        return [
            (name, it["instance_type"]["price_cents_per_hour"] / 100) for name, it in types.items()
        ]

    def _user_data(self) -> str:
        try:
            text = self.cloud_init.read_text()
        except OSError as error:
            raise CloudError(f"{self.cloud_init} cannot be read: {error.strerror}") from error
        if "YOUR-" in text or len(text.encode()) > MAX_USER_DATA_BYTES:
            raise CloudError(f"{self.cloud_init}: replace YOUR-…, and keep it below 1 MB")
        return text


def _worker(instance: Mapping[str, Any]) -> CloudWorker:
    return CloudWorker(
        id=str(instance["id"]),
        name=str(instance["name"]),
        state=str(instance["status"]),
        life=_life(str(instance["status"])),
        address=str(instance.get("ip", "")),
        dollars_per_hour=instance["instance_type"]["price_cents_per_hour"] / 100,
    )


def _life(status: str) -> Life:
    if status in _ALIVE:
        return Life.ALIVE
    return Life.FAILED if status in _FAILED else Life.GONE
