"""What an admin holds on a key: what an admin switched off or lowered, only an admin lifts.

The key's row keeps it by field (`ApiKey.holds`), so that a customer may go lower and back up to it,
and never above it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.auth.key_limits import DEFAULTS, default_of, is_above
from core.config.settings import Settings
from core.errors import Forbidden
from models.accounts.api_key import ApiKey
from models.jobs.serializer import show_time


def holds_after(
    before: Mapping[str, Any], changes: Mapping[str, Any], settings: Settings, *, is_own: bool
) -> dict[str, Any]:
    """Return what is held of a key after an admin's changes.

    What an admin sets at or above what every customer has by default holds nothing any more.

    Args:
        is_own: it is the admin's own key, of which nothing needs to be held.
    """
    holds = {name: value for name, value in before.items() if name not in changes}
    if is_own:
        return holds
    for name, value in changes.items():
        if name == "is_active" and value is False:
            holds[name] = False
        elif name == "expires_at" and value is not None:
            holds[name] = show_time(value)
        elif name in DEFAULTS and is_above(default_of(settings, name), value):
            holds[name] = value
    return holds


def check_state(key: ApiKey, changes: Mapping[str, Any]) -> None:
    """Check that a customer's changes leave the key off, and its expiry, as an admin holds them.

    Raises:
        Forbidden: they lift what an admin set.
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
