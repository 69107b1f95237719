"""The form of a key: the values that it shows, and what was entered as the API takes it.

Nothing is judged here: what is no number goes to the API as it is, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from flask import render_template
from pydantic.alias_generators import to_camel

from admin_ui.api_client import ServiceRefusal
from admin_ui.services import services
from admin_ui.session.form_token import new_form_id
from core.config.settings import Settings
from core.parsing import bounded_integer
from models.accounts.api_key import ApiKey

#: The limits that may be left empty, by their names in the API; the API gives a customer's key
#: its default then, and an admin's none.
OPTIONAL_LIMITS = ("tokenLimit", "maxInFlight", "monthlyTokenLimit")
#: What the form folds away: it is open where something was entered or is wrong.
FOLDED = (*OPTIONAL_LIMITS, "priority", "expiresAt")
_MOST = 10**18 - 1


def new_values(settings: Settings) -> dict[str, Any]:
    """Return what the form of a new key begins with."""
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
    """Return what the form of a key shows: times to the minute, as a browser enters them."""
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
    """Return what was entered; a priority is an admin's alone."""
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
    """Return the API's body for these values, `before` a change only with those that differ."""
    wanted = {
        name: value
        for name, value in values.items()
        if before is None or name not in before or value != before[name]
    }
    expires_at = wanted.get("expiresAt")
    if isinstance(expires_at, datetime):
        wanted["expiresAt"] = expires_at.isoformat()
    return wanted


def read_number(text: str) -> int | str | None:
    """Return the number that was entered, `None` if nothing was, else what it is instead."""
    digits = text.strip()
    unsigned = digits.removeprefix("-")
    if bounded_integer(unsigned, most=_MOST) is not None:
        return int(digits)
    return digits or None


def key_form(
    key: ApiKey | None,
    values: Mapping[str, Any],
    owner: str,
    refusal: ServiceRefusal | None = None,
) -> str:
    """Show the form of a new key, or of this one."""
    faults = _faults(refusal)
    began = values_of(key) if key else new_values(services().settings)
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
            name in faults or (name in values and values[name] != began[name]) for name in FOLDED
        ),
        fault=refusal.message if refusal and not refusal.fields else None,
    )


def _faults(refusal: ServiceRefusal | None) -> dict[str, str]:
    """Return what is wrong by the form's own names, in which an owner is an email."""
    faults = refusal.fields if refusal else {}
    return {("owner" if name == "userId" else name): text for name, text in faults.items()}


def _moment(text: str) -> datetime | str | None:
    """Return the instant; a time without a zone is in UTC."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return text or None
