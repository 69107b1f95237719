"""The first call, step by step, with the own key filled in."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.quick_start.examples import examples_with_secret, examples_with_token, login_call
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.web.page import database, present_time
from core.ids import Prefix, read_id, show_id
from models.accounts.api_key import ApiKey, list_keys

blueprint = Blueprint("quick_start", __name__, url_prefix="/quick-start")

#: The newest of the own keys can be chosen here.
OFFERED_KEYS = 50


@blueprint.get("")
@signed_in
def show() -> ResponseReturnValue:
    own = list_keys(database(), user_id=viewer().id, after=None, limit=OFFERED_KEYS).rows
    now = present_time()
    usable = [key for key in own if key.is_active and not key.has_expired(now)]
    key = _chosen(usable)
    return render_template(
        "quick_start/show.html",
        keys=usable,
        has_unusable=len(usable) < len(own),
        key=key,
        api_url=services().settings.shown_api_url,
        with_secret=examples_with_secret(),
        login=login_call(viewer().email),
        with_token=examples_with_token(show_id(Prefix.KEY, key.id) if key else "your_api_key_id"),
    )


def _chosen(keys: list[ApiKey]) -> ApiKey | None:
    """Return the key that `?key=` names, else the newest."""
    wanted = read_id(Prefix.KEY, request.args.get("key", ""))
    named = [key for key in keys if key.id == wanted]
    return next(iter(named or keys), None)
