"""Whether the instance can start, and whether it serves yet: its ports and `/readyz`."""

from __future__ import annotations

import errno
import http.client
import json
import time
from typing import Any

from cli.system.child_process import POLL_SECONDS, Tick, WaitedTooLong, wait_until
from cli.system.ports import bind_fault
from cli.up.progress import Progress
from core.config.settings import Settings
from core.errors import LauncherError

#: A model on disk loads in seconds to minutes; one from the hub must be fetched first.
LOCAL_SECONDS = 600.0
HUB_SECONDS = 6 * 3600.0
CALL_SECONDS = 3.0
#: The parts that `/readyz` names, in words.
WAITING = {"database": "the database", "redis": "the queue", "workers": "the model to load"}


def check_port(host: str, port: int, option: str, patience_seconds: float = 0.0) -> None:
    """Check that a server can listen there, within that time.

    Raises:
        LauncherError: it cannot; the message names the option that helps.
    """
    deadline = time.monotonic() + patience_seconds
    while (fault := bind_fault(host, port)) is not None:
        if time.monotonic() >= deadline:
            raise _port_error(host, port, option, fault)
        time.sleep(POLL_SECONDS)


def local_url(host: str, port: int) -> str:
    """Return the address under which this machine reaches a server of ours."""
    local = _local(host)
    return f"http://[{local}]:{port}" if ":" in local else f"http://{local}:{port}"


def wait_ready(settings: Settings, *, progress: Progress, tick: Tick) -> None:
    """Return when the API calls itself ready and the admin UI answers.

    Raises:
        LauncherError: they do not within the time.
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
        wait_until(is_ready, timeout_seconds=seconds, what="all parts", tick=tick)
    except WaitedTooLong:
        raise LauncherError(f"not ready after {seconds:.0f} s: {missing}") from None


def _missing(settings: Settings) -> str:
    """Return what is still to come, in words, or nothing."""
    answer = _get(settings.api_host, settings.api_port, "/readyz")
    if answer is None:
        return "waiting for the API"
    status, body = answer
    if status != 200:
        parts = body.get("parts", {}) if isinstance(body, dict) else {}
        away = [WAITING.get(name, name) for name, state in parts.items() if state != "ok"]
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
    """Return the status and the JSON, if it is that, or `None` while nobody answers."""
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
