"""The interface of GPU providers, and the names that mark our workers in an account."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from cloud.rest import CloudError

#: The name of each of our workers begins so. Other machines of the account are never touched.
PREFIX = "bountycoder-worker-"


class Life(Enum):
    """State of a rented machine: FAILED ones still cost money; GONE ones end or have ended."""

    ALIVE = "alive"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class CloudWorker:
    """A rented machine that runs a worker, or starts to.

    Attributes:
        state: the provider's own state.
        life: the meaning of `state` for us.
        address: an IP address, or a data center if there is none.
        dollars_per_hour: its price while it is alive.
    """

    id: str
    name: str
    state: str
    life: Life
    address: str
    dollars_per_hour: float


class Provider(Protocol):
    """A GPU cloud. Every call raises `CloudError` with a message of one line."""

    def list(self) -> Sequence[CloudWorker]:
        """Return our workers, oldest first."""
        ...

    def create(self) -> str:
        """Rent a worker and return its id; it costs money from now on."""
        ...

    def drain(self, worker: CloudWorker) -> None:
        """Let a worker finish its jobs within its grace period."""
        ...

    def end(self, worker: CloudWorker) -> None:
        """Return a worker to the provider; it costs no more money."""
        ...

    def storage(self, name: str, place: str, gigabytes: int) -> str:
        """Create storage for the weights; return its id or its mount point."""
        ...

    def prices(self) -> Sequence[tuple[str, float]]:
        """Return the GPUs for rent, each with its price in dollars an hour."""
        ...


def new_name() -> str:
    return f"{PREFIX}{secrets.token_hex(4)}"


def read_body(path: Path) -> dict[str, Any]:
    """Read a request body from our template or from a copy of it.

    Raises:
        CloudError: the file cannot be read, or still contains a `YOUR-…` placeholder.
    """
    try:
        text = path.read_text()
        body = json.loads(text)
    except OSError as error:
        raise CloudError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CloudError(f"{path} is not JSON: {error}") from error
    left = sorted({word for word in text.replace('"', " ").split() if word.startswith("YOUR-")})
    if left or not isinstance(body, dict):
        what = f"replace {', '.join(left)}" if left else "it must be an object"
        raise CloudError(f"{path}: {what}")
    return body
