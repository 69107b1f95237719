"""What providers of GPUs have in common, and what is ours among all that an account has there."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from cloud.rest import CloudError

#: Whatever has another name in the account is never touched.
PREFIX = "bountycoder-worker-"


class Life(Enum):
    """FAILED ones do nothing any more and are still there; GONE ones have left, or are leaving."""

    ALIVE = "alive"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class CloudWorker:
    """A rented machine that runs a worker, or will.

    Attributes:
        state: as the provider says it, and `life` what that means for us.
        address: an IP address, or a data center where there is none.
        dollars_per_hour: what it costs while it is alive.
    """

    id: str
    name: str
    state: str
    life: Life
    address: str
    dollars_per_hour: float


class Provider(Protocol):
    """A cloud. Every call raises `CloudError` with one clear line."""

    def list(self) -> Sequence[CloudWorker]:
        """Return our workers there, the oldest first."""
        ...

    def create(self) -> str:
        """Rent one more, and return its id: it begins to cost money now."""
        ...

    def drain(self, worker: CloudWorker) -> None:
        """Let it finish what it can, within its grace period."""
        ...

    def end(self, worker: CloudWorker) -> None:
        """Give it back: it costs no more."""
        ...

    def storage(self, name: str, place: str, gigabytes: int) -> str:
        """Make storage for the weights, and return its id or its place."""
        ...

    def prices(self) -> Sequence[tuple[str, float]]:
        """Return what GPUs can be rented, and dollars an hour for each."""
        ...


def new_name() -> str:
    return f"{PREFIX}{secrets.token_hex(4)}"


def read_body(path: Path) -> dict[str, Any]:
    """Read a request's body from a file of ours or a copy of it.

    Raises:
        CloudError: it cannot be read, or still has a word that stands for something of yours.
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
