"""The routes of the admin UI, for tests that try each of them."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Flask
from werkzeug.routing import Rule

from admin_ui.web.access import Audience, audience_of


def rules(app: Flask, audience: Audience | None = None) -> Iterator[Rule]:
    """Yield the rules of an audience, or of all; not the rule of static files."""
    with app.app_context():
        for rule in app.url_map.iter_rules():
            if rule.endpoint != "static" and audience in {None, audience_of(rule.endpoint)}:
                yield rule
