"""API keys of the viewer, and the choices and headers that forms make of them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import quote

from admin_ui.web.access import viewer
from admin_ui.web.page import database, present_time
from core.ids import Prefix, format_id
from models.accounts.api_key import ApiKey, list_keys

#: Most keys that a page offers.
MAX_KEYS = 200
#: Characters of a key id in a header; longer than any valid id.
_MAX_ID_LENGTH = 100


def own_keys() -> list[ApiKey]:
    """Return the viewer's newest keys, newest first, at most `MAX_KEYS`."""
    return list_keys(database(), user_id=viewer().id, after=None, limit=MAX_KEYS).rows


def usable_keys(keys: Sequence[ApiKey]) -> list[ApiKey]:
    """Return the keys that may generate now: active and not expired."""
    now = present_time()
    return [key for key in keys if key.is_active and not key.has_expired(now)]


def key_options(keys: Sequence[ApiKey]) -> list[tuple[str, str]]:
    """Return the options of a select element: id and name of each key."""
    return [(format_id(Prefix.KEY, key.id), key.name) for key in keys]


def usable_key_options() -> list[tuple[str, str]]:
    """Return the options of a select element for the viewer's usable keys."""
    return key_options(usable_keys(own_keys()))


def key_header(key_id: str) -> dict[str, str]:
    """Return the header that names the key of a call.

    Args:
        key_id: as a form sent it. Percent-encoding makes any text a valid header; the API rejects
            a text that is no id.
    """
    return {"x-api-key-id": quote(key_id[:_MAX_ID_LENGTH], safe="")}
