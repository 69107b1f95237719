"""Whether the client of the present request is still there."""

from __future__ import annotations

from flask import request

from core.web.disconnect import CONNECTION, HangUp


def present_hang_up() -> HangUp:
    """Return the connection of the request that is handled now."""
    return HangUp(request.environ.get(CONNECTION))
