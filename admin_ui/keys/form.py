"""The form of a key: its values, and the request body that they make.

The API validates the values: a text that is no number is passed on unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import render_template
from pydantic.alias_generators import to_camel

from admin_ui.api_client import ApiRefusal
from admin_ui.services import services
from admin_ui.session.form_token import new_form_id
from core.config.settings import Settings
from core.text.integers import bounded_integer
from models.accounts.api_key import ApiKey

#: Limits that may be left blank, by API name. The API then gives a customer's key its default,
#: and an admin's key no limit.
OPTIONAL_LIMITS = ("tokenLimit", "maxInFlight", "monthlyTokenLimit")
#: Fields in the folded part of the form, which opens if one of them is filled in or wrong.
FOLDED = (*OPTIONAL_LIMITS, "priority", "expiresAt")
_MAX_NUMBER = 10**18 - 1


def new_values(settings: Settings) -> dict[str, Any]:
    """Return the initial values of the form of a new key."""
    return {
        "name": "",
        "rateLimit": settings.default_rate_limit,
        "tokenLimit": settings.default_token_limit or None,
        "maxInFlight": settings.default_max_in_flight or None,
        "monthlyTokenLimit": settings.default_monthly_token_limit or None,
        "priority": 1,
        "isActive": True,
        "expiresAt": None,
    }


def values_of(key: ApiKey) -> dict[str, Any]:
    """Return the values of a key; the expiry has minutes, like a browser's input field."""
    expires_at = key.expires_at
    return {
        "name": key.name,
        "rateLimit": key.rate_limit,
        "tokenLimit": key.token_limit,
        "maxInFlight": key.max_in_flight,
        "monthlyTokenLimit": key.monthly_token_limit,
        "priority": key.priority,
        "isActive": key.is_active,
        "expiresAt": expires_at.replace(second=0, microsecond=0) if expires_at else None,
    }


def entered_values(form: Mapping[str, str], *, is_admin: bool) -> dict[str, Any]:
    """Return the entered values; only an admin enters a priority."""
    values: dict[str, Any] = {
        "name": form.get("name", "").strip(),
        "rateLimit": read_number(form.get("rateLimit", "")),
        **{name: read_number(form.get(name, "")) for name in OPTIONAL_LIMITS},
        "isActive": "isActive" in form,
        "expiresAt": _moment(form.get("expiresAtInstant") or form.get("expiresAt", "")),
    }
    if is_admin:
        values["priority"] = read_number(form.get("priority", ""))
    return values


def body_of(values: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the request body of these values; with `before`, only of those that differ."""
    body = {
        name: value
        for name, value in values.items()
        if before is None or name not in before or value != before[name]
    }
    expires_at = body.get("expiresAt")
    if isinstance(expires_at, datetime):
        body["expiresAt"] = expires_at.isoformat()
    return body


def read_number(text: str) -> int | str | None:
    """Return the entered number, `None` for a blank field, or else the text."""
    digits = text.strip()
    unsigned = digits.removeprefix("-")
    if bounded_integer(unsigned, most=_MAX_NUMBER) is not None:
        return int(digits)
    return digits or None


def key_form(
    key: ApiKey | None,
    values: Mapping[str, Any],
    owner: str,
    refusal: ApiRefusal | None = None,
) -> str:
    """Return the form of a new key, or of `key`."""
    faults = _faults(refusal)
    initial = values_of(key) if key else new_values(services().settings)
    return render_template(
        "keys/form.html",
        key=key,
        values=values,
        owner=owner,
        held_fields={to_camel(name): value for name, value in key.holds.items()} if key else {},
        form_id=new_form_id(),
        settings=services().settings,
        faults=faults,
        is_unfolded=any(
            name in faults or (name in values and values[name] != initial[name]) for name in FOLDED
        ),
        fault=refusal.message if refusal and not refusal.fields else None,
    )


def _faults(refusal: ApiRefusal | None) -> dict[str, str]:
    """Return the faults by form field: `userId` of the API is `owner` in the form."""
    faults = refusal.fields if refusal else {}
    return {("owner" if name == "userId" else name): text for name, text in faults.items()}


def _moment(text: str) -> datetime | str | None:
    """Return the entered time, or else the text; a time without a zone is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return text or None
