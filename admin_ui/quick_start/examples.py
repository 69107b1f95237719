"""The first calls that pages show, filled in for the person who looks: `templates/examples/`."""

from __future__ import annotations

import json
from dataclasses import dataclass

from flask import render_template

from admin_ui.services import services

_WITH_SECRET = (
    ("curl_secret", "cURL"),
    ("python_secret", "Python"),
    ("javascript_secret", "JavaScript"),
    ("openai_python", "OpenAI for Python"),
    ("openai_javascript", "OpenAI for JavaScript"),
)
_WITH_TOKEN = (("curl_jwt", "cURL"), ("python_jwt", "Python"), ("javascript_jwt", "JavaScript"))


@dataclass(frozen=True, slots=True)
class Example:
    """A program; `name` is its own on the page."""

    name: str
    title: str
    code: str


def curl_with(secret: str) -> str:
    """Return the call that proves a key by this secret."""
    return _code("curl_secret", secret=secret)


def login_call(email: str) -> str:
    """Return the call that gives this user a token."""
    # It stands in JSON, and that between the shell's single quotes.
    written = json.dumps(email)[1:-1].replace("'", "'\\''")
    return _code("curl_login", email=written)


def examples_with_secret() -> list[Example]:
    """Return programs that prove a key by its secret, which they take from the environment."""
    return [Example(name, title, _code(name)) for name, title in _WITH_SECRET]


def examples_with_token(key_id: str) -> list[Example]:
    """Return programs that name a key by its id, beside a token of its owner."""
    return [Example(name, title, _code(name, key_id=key_id)) for name, title in _WITH_TOKEN]


def _code(name: str, **values: str) -> str:
    settings = services().settings
    return render_template(
        f"examples/{name}.txt",
        api_url=settings.shown_api_url,
        model=settings.model_name,
        **values,
    )
