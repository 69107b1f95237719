"""The key of an address, for those who may see it."""

from __future__ import annotations

from flask import abort

from admin_ui.web.access import viewer
from admin_ui.web.page import database
from core.ids import Prefix, read_id
from models.accounts.api_key import ApiKey, find_key
from models.accounts.user import User


def visible_key(key_id: str) -> tuple[ApiKey, User]:
    """Return a living key and its owner, or answer 404: what is not the viewer's is not there."""
    wanted = read_id(Prefix.KEY, key_id)
    found = find_key(database(), wanted) if wanted else None
    if found is None or not (viewer().is_admin or found[1].id == viewer().id):
        abort(404)
    return found
