"""Programs of the first steps, filled in for the viewer."""

from __future__ import annotations

import json

from flask import render_template

from admin_ui.services import services
from admin_ui.widgets.code_samples import CodeSample, code_samples, curl_call

#: Body that the first programs send; those of `templates/examples/` repeat it.
BODY = {
    "prompt": "Write a function to calculate Fibonacci numbers",
    "maxTokens": 500,
    "temperature": 0.7,
}
_OPENAI = (
    ("openai_python", "OpenAI for Python"),
    ("openai_javascript", "OpenAI for JavaScript"),
)
_WITH_JWT = (("curl_jwt", "cURL"), ("python_jwt", "Python"), ("javascript_jwt", "JavaScript"))


def curl_with_secret(secret: str) -> str:
    """Return a shell command that authenticates with this secret."""
    return curl_call(services().settings.customer_api_url, BODY, secret)


def login_call(email: str) -> str:
    """Return a shell command that gets a JWT for this user."""
    # The email is part of a JSON string, which is inside single quotes of the shell.
    written = json.dumps(email)[1:-1].replace("'", "'\\''")
    return _render("curl_login", email=written)


def samples_with_secret() -> list[CodeSample]:
    """Return programs that authenticate with the secret of a key, from the environment."""
    return [
        *code_samples(services().settings.customer_api_url, BODY),
        *(CodeSample(name, title, _render(name)) for name, title in _OPENAI),
    ]


def samples_with_jwt(key_id: str) -> list[CodeSample]:
    """Return programs that authenticate with a JWT and name the key by its id."""
    return [CodeSample(name, title, _render(name, key_id=key_id)) for name, title in _WITH_JWT]


def _render(name: str, **values: str) -> str:
    settings = services().settings
    return render_template(
        f"examples/{name}.txt",
        api_url=settings.customer_api_url,
        model=settings.model_name,
        **values,
    )
