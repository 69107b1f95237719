"""The keys that the person at the page may spend: their own ones that work."""

from __future__ import annotations

from urllib.parse import quote

from admin_ui.web.access import viewer
from admin_ui.web.page import database, present_time
from core.ids import Prefix, show_id
from models.accounts.api_key import ApiKey, list_keys

#: More are not offered for choosing.
MOST_KEYS = 200
#: Longer than any id.
_ID_LENGTH = 100


def own_usable_keys() -> list[ApiKey]:
    """Return the viewer's own keys that may generate now, newest first."""
    keys = list_keys(database(), user_id=viewer().id, after=None, limit=MOST_KEYS)
    now = present_time()
    return [key for key in keys.rows if key.is_active and not key.has_expired(now)]


def own_key_options() -> list[tuple[str, str]]:
    """Return the same as options of a choice: id and name."""
    return [(show_id(Prefix.KEY, key.id), key.name) for key in own_usable_keys()]


def paid_by(key_id: str) -> dict[str, str]:
    """Return the header that names the key of a call, as a form has it.

    What is no id stays none, as characters that a header can carry: the API refuses it.
    """
    return {"x-api-key-id": quote(key_id[:_ID_LENGTH], safe="")}
