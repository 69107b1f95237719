"""Puts the old and new values of fields in an audit entry into words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from admin_ui.widgets.formats import duration, number

#: Name of a field of the API in a sentence.
_FIELDS = {
    "name": "name",
    "rateLimit": "rate limit",
    "tokenLimit": "token limit",
    "monthlyTokenLimit": "monthly token limit",
    "maxInFlight": "limit of jobs in flight",
    "priority": "priority",
    "expiresAt": "expiry",
    "isActive": "state",
    "held": "set by an admin",
    "email": "email",
    "role": "role",
    "graceSeconds": "old secret works for",
    "keys": "API keys",
    "url": "URL",
}
#: Text for an empty value, where "none" does not fit.
_NOTHING = {"expiresAt": "never", "name": "none"}


def changes_in(details: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return label, old value and new value of each changed field."""
    return [
        (label_of(name), value_text(name, value["from"]), value_text(name, value["to"]))
        for name, value in details.items()
        if is_change(value)
    ]


def changed_fields(changes: Sequence[tuple[str, str, str]], owner: Markup) -> Markup:
    """Return `the rate limit of … from 60 to 120`, or the names of several fields."""
    if len(changes) == 1:
        name, before, after = changes[0]
        return Markup("the {} of {} from {} to {}").format(
            name, owner, strong(before), strong(after)
        )
    if not changes:
        return owner
    names = [f"the {name}" for name, _, _ in changes]
    return Markup("{} and {} of {}").format(", ".join(names[:-1]), names[-1], owner)


def only_change(details: Mapping[str, Any], name: str) -> Any:
    """Return the change of this field if no other field changed, or else `None`."""
    others = details.keys() - {name, "jobs", "batches"}
    return None if others else details.get(name)


def is_change(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"from", "to"}


def label_of(name: str) -> str:
    """Return the name of a field in a sentence; by default `stateBefore` is `state before`."""
    return _FIELDS.get(name) or re.sub("([A-Z])", r" \1", name).lower()


def value_text(name: str, value: Any) -> str:
    if value is None or value == "":
        return _NOTHING.get(name, "none")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int):
        return duration(value * 1000) if name.endswith("Seconds") else number(value)
    return str(value)


def strong(text: str) -> Markup:
    return Markup("<strong>{}</strong>").format(text)


def quoted(name: str) -> Markup:
    return Markup("<strong>“{}”</strong>").format(name) if name else Markup("that is gone")
