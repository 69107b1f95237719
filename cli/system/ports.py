"""Free TCP ports of this machine."""

from __future__ import annotations

import secrets
import socket
from itertools import count, islice

from core.errors import LauncherError

#: Below the range of the kernel's ephemeral ports. An outgoing connection could take one of those
#: between our choice and the server's start, or while the server restarts.
PORTS = range(10_000, 30_000)
MAX_ATTEMPTS = 100
#: Each call continues after the last one, so that ports chosen before any server starts differ.
#: Processes start at random positions.
_positions = count(secrets.randbelow(len(PORTS)))


def free_port() -> int:
    """Return a free port of 127.0.0.1, a different one for each call of this process."""
    for position in islice(_positions, MAX_ATTEMPTS):
        port = PORTS[position % len(PORTS)]
        if bind_fault("127.0.0.1", port) is None:
            return port
    raise LauncherError(f"found no free port between {PORTS.start} and {PORTS.stop}")


def bind_fault(host: str, port: int) -> OSError | None:
    """Return the error of binding this address now, or `None` if a server could listen there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Servers set this too: lingering connections of an earlier run do not block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
