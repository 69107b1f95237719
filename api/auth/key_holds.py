"""Holds of an admin on a key: only an admin may lift what an admin switched off or lowered.

The row of the key stores the holds by field (`ApiKey.holds`). A customer may set a lower value and
return to the held one, but never exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.auth.key_limits import DEFAULTS, default_of, is_above
from core.config.settings import Settings
from core.errors import Forbidden
from models.accounts.api_key import ApiKey
from models.jobs.serializer import format_time


def holds_after(
    before: Mapping[str, Any], changes: Mapping[str, Any], settings: Settings, *, is_own: bool
) -> dict[str, Any]:
    """Return the holds on a key after an admin's changes.

    A value at or above the customers' default removes the hold.

    Args:
        is_own: the key is the admin's own; it needs no holds.
    """
    holds = {name: value for name, value in before.items() if name not in changes}
    if is_own:
        return holds
    for name, value in changes.items():
        if name == "is_active" and value is False:
            holds[name] = False
        elif name == "expires_at" and value is not None:
            holds[name] = format_time(value)
        elif name in DEFAULTS and is_above(default_of(settings, name), value):
            holds[name] = value
    return holds


def check_state(key: ApiKey, changes: Mapping[str, Any]) -> None:
    """Check that a customer's changes respect the holds on `isActive` and `expiresAt`.

    Raises:
        Forbidden: the changes would lift a hold.
    """
    if key.holds.get("is_active") is False and changes.get("is_active"):
        raise Forbidden(
            "an admin switched this key off: only an admin may switch it on", param="isActive"
        )
    held = key.holds.get("expires_at")
    if held is None or "expires_at" not in changes:
        return
    wanted: datetime | None = changes["expires_at"]
    if wanted is None or wanted > datetime.fromisoformat(held):
        raise Forbidden(
            f"an admin set expiresAt to {held}: only an admin may set a later time, or none",
            param="expiresAt",
        )
