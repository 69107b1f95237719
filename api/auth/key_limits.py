"""Decides which limits a caller may set on a key.

A customer may not exceed the defaults, nor a limit that an admin lowered (`api/auth/key_holds.py`).
An admin may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from core.config.settings import Settings
from core.errors import Forbidden
from core.generation import Body
from core.integer_field import Whole
from models.accounts.api_key import ApiKey

MAX_RATE_LIMIT = 1_000_000
MAX_TOKEN_LIMIT = 1_000_000_000
MAX_MONTHLY_TOKEN_LIMIT = 10**15
MAX_IN_FLIGHT = 1_000_000
MAX_PRIORITY = 100

#: For each limit of a key, the setting with the default and ceiling of customers.
DEFAULTS = {
    "rate_limit": "default_rate_limit",
    "token_limit": "default_token_limit",
    "monthly_token_limit": "default_monthly_token_limit",
    "max_in_flight": "default_max_in_flight",
}


class KeyLimitsBody(Body):
    """The limits in a request body; `null` is the default, or for an admin no limit."""

    rate_limit: Annotated[int, Whole(ge=1, le=MAX_RATE_LIMIT)] | None = None
    token_limit: Annotated[int, Whole(ge=1, le=MAX_TOKEN_LIMIT)] | None = None
    monthly_token_limit: Annotated[int, Whole(ge=1, le=MAX_MONTHLY_TOKEN_LIMIT)] | None = None
    max_in_flight: Annotated[int, Whole(ge=1, le=MAX_IN_FLIGHT)] | None = None
    priority: Annotated[int, Whole(ge=1, le=MAX_PRIORITY)] = 1


def limits_of_new_key(
    body: KeyLimitsBody, settings: Settings, holds: Mapping[str, Any], *, is_admin: bool
) -> dict[str, int | None]:
    """Return the limits of a new key.

    Args:
        holds: limits that an admin has lowered; they bind a customer.

    Raises:
        Forbidden: a customer requested more than the default or than an admin has allowed.
    """
    if body.priority != 1 and not is_admin:
        raise Forbidden("only an admin may set a priority", param="priority")
    limits: dict[str, int | None] = {}
    for name in DEFAULTS:
        default = default_of(settings, name)
        if not is_admin:
            default = lower_of(default, holds.get(name))
        wanted = getattr(body, name)
        is_lifted = is_admin and name != "rate_limit" and name in body.model_fields_set
        limits[name] = default if wanted is None and not is_lifted else wanted
        if not is_admin and is_above(limits[name], default):
            raise _above(name, default, is_held=name in holds)
    return {**limits, "priority": body.priority}


def changed_limits(
    body: KeyLimitsBody, settings: Settings, key: ApiKey, *, is_admin: bool
) -> dict[str, int | None]:
    """Return the limits that this body changes on a key.

    A customer may keep or lower a limit that an admin raised, but not raise it again. A limit that
    an admin lowered is the ceiling for a customer.

    Raises:
        Forbidden: a customer requested more than the default and than the key has, or more than an
            admin has allowed.
    """
    if "priority" in body.model_fields_set and not is_admin and body.priority != key.priority:
        raise Forbidden("only an admin may set a priority", param="priority")
    limits: dict[str, int | None] = {}
    for name in [name for name in DEFAULTS if name in body.model_fields_set]:
        default, wanted, present = (
            default_of(settings, name),
            getattr(body, name),
            getattr(key, name),
        )
        if not is_admin:
            default = lower_of(default, key.holds.get(name))
        if wanted is None and (name == "rate_limit" or not is_admin):
            wanted = None if present is None else default
        if not is_admin and is_above(wanted, default) and is_above(wanted, present):
            raise _above(name, default, is_held=name in key.holds)
        limits[name] = wanted
    if "priority" in body.model_fields_set:
        limits["priority"] = body.priority
    return limits


def default_of(settings: Settings, name: str) -> int | None:
    """Return the default of a limit, which is also its ceiling for customers."""
    value: int = getattr(settings, DEFAULTS[name])
    return value or None


def max_monthly_tokens(settings: Settings, key: ApiKey) -> int | None:
    """Return the ceiling of a key's monthly limit: the default, or its limit if that is above."""
    default, limit = default_of(settings, "monthly_token_limit"), key.monthly_token_limit
    return limit if is_above(limit, default) else default


def is_above(wanted: int | None, ceiling: int | None) -> bool:
    """Return whether a limit allows more than another; `None` is no limit."""
    return ceiling is not None and (wanted is None or wanted > ceiling)


def lower_of(first: int | None, second: int | None) -> int | None:
    """Return the limit that allows less; `None` is no limit."""
    return second if is_above(first, second) else first


def _above(name: str, most: int | None, *, is_held: bool) -> Forbidden:
    field = KeyLimitsBody.model_fields[name].alias or name
    why = "an admin has set that" if is_held else "only an admin may set more"
    return Forbidden(f"{field} must be at most {most}: {why}", param=field)
