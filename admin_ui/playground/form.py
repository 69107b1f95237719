"""The form of the playground, and its request body; the API validates the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from core.config.settings import PromptMode
from core.generation import DEFAULT_MAX_TOKENS, DEFAULT_TEMPERATURE

NUMBERS: dict[str, Callable[[str], int | float]] = {
    "maxTokens": int,
    "temperature": float,
    "topP": float,
    "seed": int,
}
DEFAULTS = {
    "key": "",
    "mode": PromptMode.CHAT.value,
    "system": "",
    "prompt": "",
    "maxTokens": str(DEFAULT_MAX_TOKENS),
    "temperature": str(DEFAULT_TEMPERATURE),
    "topP": "",
    "seed": "",
    "stop": "",
}


def read_form(given: Mapping[str, str]) -> dict[str, str]:
    """Return the fields of the form, with defaults for missing ones."""
    form = {name: given.get(name, default) for name, default in DEFAULTS.items()}
    # Browsers submit textarea content with CRLF line endings.
    for name in ("system", "prompt", "stop"):
        form[name] = form[name].replace("\r\n", "\n")
    return form


def has_parameters(form: Mapping[str, str]) -> bool:
    """Return whether a parameter differs from its default."""
    return any(form[name] != DEFAULTS[name] for name in (*NUMBERS, "stop"))


def body_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the request body; a text that is no number is passed on unchanged."""
    body = _prompt(form)
    for name, read in NUMBERS.items():
        if text := form[name].strip():
            body[name] = _number(text, read)
    if stop := [line for line in form["stop"].split("\n") if line]:
        body["stop"] = stop
    return body


def field_faults(faults: Mapping[str, str]) -> dict[str, str]:
    """Return the API's faults by form field; a fault without a field keeps its API name."""
    return {_field(param): message for param, message in faults.items()}


def _prompt(form: Mapping[str, str]) -> dict[str, Any]:
    if form["mode"] == PromptMode.CHAT and form["system"]:
        system = {"role": "system", "content": form["system"]}
        return {"messages": [system, {"role": "user", "content": form["prompt"]}]}
    return {"prompt": form["prompt"], "promptMode": form["mode"]}


def _number(text: str, read: Callable[[str], int | float]) -> int | float | str:
    try:
        number = read(text)
    except ValueError:
        return text
    # JSON cannot express infinity and NaN; the API rejects the text and names the field.
    return number if abs(number) < float("inf") else text


def _field(param: str) -> str:
    if param.startswith("messages.0."):
        return "system"
    name = param.partition(".")[0]
    return {"messages": "prompt", "promptMode": "mode"}.get(name, name)
