"""Check the instance's ports before the start, and wait for `/readyz` after it."""

from __future__ import annotations

import errno
import http.client
import json
import time
from typing import Any

from cli.system.child_process import POLL_SECONDS, Tick, WaitTimeout, wait_until
from cli.system.ports import bind_fault
from cli.up.progress import StartProgress
from core.config.settings import Settings
from core.errors import LauncherError

#: A model on disk loads in seconds to minutes; one from the hub must be downloaded first.
LOCAL_SECONDS = 600.0
HUB_SECONDS = 6 * 3600.0
CALL_SECONDS = 3.0
#: Labels of the components in `/readyz`.
WAITING = {"database": "the database", "redis": "the queue", "workers": "the model to load"}


def check_port(host: str, port: int, option: str, patience_seconds: float = 0.0) -> None:
    """Wait until a server can listen on this address.

    Raises:
        LauncherError: the address is still unusable after `patience_seconds`. The message names
            the option that changes it.
    """
    deadline = time.monotonic() + patience_seconds
    while (fault := bind_fault(host, port)) is not None:
        if time.monotonic() >= deadline:
            raise _port_error(host, port, option, fault)
        time.sleep(POLL_SECONDS)


def local_url(host: str, port: int) -> str:
    """Return the URL at which this machine reaches a server that listens on `host`."""
    local = _local(host)
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def wait_ready(settings: Settings, *, progress: StartProgress, tick: Tick) -> None:
    """Wait until the API reports ready and the admin UI responds.

    Raises:
        LauncherError: they take too long: `LOCAL_SECONDS`, or `HUB_SECONDS` with a download.
    """
    missing = ""

    def is_ready() -> bool:
        nonlocal missing
        missing = _missing(settings)
        if missing:
            progress.step(missing)
        return not missing

    seconds = LOCAL_SECONDS if settings.model_is_local else HUB_SECONDS
    try:
        wait_until(is_ready, timeout_seconds=seconds, what="all programs", tick=tick)
    except WaitTimeout:
        raise LauncherError(f"not ready after {seconds:.0f} s: {missing}") from None


def _missing(settings: Settings) -> str:
    """Return a message about the missing components, or an empty string if all are ready."""
    response = _get(settings.api_host, settings.api_port, "/readyz")
    if response is None:
        return "waiting for the API"
    status, body = response
    if status != 200:
        states = body.get("parts", {}) if isinstance(body, dict) else {}
        away = [WAITING.get(name, name) for name, state in states.items() if state != "ok"]
        return f"waiting for {' and '.join(away) or 'the API'}"
    if _get(settings.admin_host, settings.admin_port, "/") is None:
        return "waiting for the admin UI"
    return ""


def _port_error(host: str, port: int, option: str, fault: OSError) -> LauncherError:
    if fault.errno == errno.EADDRINUSE:
        return LauncherError(
            f"port {port} is in use by another program: choose another with {option}"
        )
    return LauncherError(
        f"cannot listen on {host} port {port}: {fault.strerror}: choose another with {option}"
    )


def _get(host: str, port: int, path: str) -> tuple[int, Any] | None:
    """Return the status and the JSON body, if any, or `None` if no server responds."""
    connection = http.client.HTTPConnection(_local(host), port, timeout=CALL_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        raw = response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    try:
        return response.status, json.loads(raw)
    except ValueError:
        return response.status, None


def _local(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - binds nothing
