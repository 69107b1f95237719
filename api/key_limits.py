"""What a key may be limited to: a customer stays below the defaults, an admin goes beyond."""

from __future__ import annotations

from typing import Annotated

from core.errors import Forbidden
from core.generation import Body
from core.settings import Settings
from core.whole import Whole
from models.api_key import ApiKey

MAX_RATE_LIMIT = 1_000_000
MAX_TOKEN_LIMIT = 1_000_000_000
MAX_MONTHLY_TOKEN_LIMIT = 10**15
MAX_IN_FLIGHT = 1_000_000
MAX_PRIORITY = 100

#: The limits of a key, and the setting that is a customer's default and ceiling for each.
DEFAULTS = {
    "rate_limit": "default_rate_limit",
    "token_limit": "default_token_limit",
    "monthly_token_limit": "default_monthly_token_limit",
    "max_in_flight": "default_max_in_flight",
}


class KeyLimitsBody(Body):
    """The limits as callers write them; `null` is the default, or for an admin no limit."""

    rate_limit: Annotated[int, Whole(ge=1, le=MAX_RATE_LIMIT)] | None = None
    token_limit: Annotated[int, Whole(ge=1, le=MAX_TOKEN_LIMIT)] | None = None
    monthly_token_limit: Annotated[int, Whole(ge=1, le=MAX_MONTHLY_TOKEN_LIMIT)] | None = None
    max_in_flight: Annotated[int, Whole(ge=1, le=MAX_IN_FLIGHT)] | None = None
    priority: Annotated[int, Whole(ge=1, le=MAX_PRIORITY)] = 1


def limits_of_new_key(
    body: KeyLimitsBody, settings: Settings, *, is_admin: bool
) -> dict[str, int | None]:
    """Return the limits of a key that is made with this body.

    Raises:
        Forbidden: a customer asked for more than the default.
    """
    if body.priority != 1 and not is_admin:
        raise Forbidden("only an admin may set a priority", param="priority")
    limits: dict[str, int | None] = {}
    for name in DEFAULTS:
        default = _default(settings, name)
        wanted = getattr(body, name)
        is_lifted = is_admin and name != "rate_limit" and name in body.model_fields_set
        limits[name] = default if wanted is None and not is_lifted else wanted
        if not is_admin and _is_above(limits[name], default):
            raise _above(name, default)
    return {**limits, "priority": body.priority}


def changed_limits(
    body: KeyLimitsBody, settings: Settings, key: ApiKey, *, is_admin: bool
) -> dict[str, int | None]:
    """Return the limits that this body gives a key; what it does not name stays.

    A customer may keep what an admin once granted, and lower it, but not get it again.

    Raises:
        Forbidden: a customer asked for more than the default and than the key has.
    """
    if "priority" in body.model_fields_set and not is_admin and body.priority != key.priority:
        raise Forbidden("only an admin may set a priority", param="priority")
    limits: dict[str, int | None] = {}
    for name in [name for name in DEFAULTS if name in body.model_fields_set]:
        default, wanted, present = _default(settings, name), getattr(body, name), getattr(key, name)
        if wanted is None and (name == "rate_limit" or not is_admin):
            wanted = None if present is None else default
        if not is_admin and _is_above(wanted, default) and _is_above(wanted, present):
            raise _above(name, default)
        limits[name] = wanted
    if "priority" in body.model_fields_set:
        limits["priority"] = body.priority
    return limits


def _default(settings: Settings, name: str) -> int | None:
    value: int = getattr(settings, DEFAULTS[name])
    return value or None


def _is_above(wanted: int | None, ceiling: int | None) -> bool:
    """Say whether a limit allows more than another; `None` is no limit."""
    return ceiling is not None and (wanted is None or wanted > ceiling)


def _above(name: str, default: int | None) -> Forbidden:
    field = KeyLimitsBody.model_fields[name].alias or name
    return Forbidden(f"{field} must be at most {default}: only an admin may set more", param=field)
