"""The first call, step by step, filled in with a key of the viewer."""

from __future__ import annotations

from flask import Blueprint, render_template, request
from flask.typing import ResponseReturnValue

from admin_ui.quick_start.examples import login_call, samples_with_jwt, samples_with_secret
from admin_ui.services import services
from admin_ui.web.access import signed_in, viewer
from admin_ui.widgets.own_keys import own_keys, usable_keys
from core.ids import Prefix, format_id, parse_id
from models.accounts.api_key import ApiKey

blueprint = Blueprint("quick_start", __name__, url_prefix="/quick-start")


@blueprint.get("")
@signed_in
def show() -> ResponseReturnValue:
    own = own_keys()
    usable = usable_keys(own)
    key = _chosen(usable)
    return render_template(
        "quick_start/show.html",
        keys=usable,
        has_unusable=len(usable) < len(own),
        key=key,
        api_url=services().settings.customer_api_url,
        with_secret=samples_with_secret(),
        login=login_call(viewer().email),
        with_jwt=samples_with_jwt(format_id(Prefix.KEY, key.id) if key else "your_api_key_id"),
    )


def _chosen(keys: list[ApiKey]) -> ApiKey | None:
    """Return the key that `?key=` names, or else the newest."""
    key_id = parse_id(Prefix.KEY, request.args.get("key", ""))
    named = [key for key in keys if key.id == key_id]
    return next(iter(named or keys), None)
