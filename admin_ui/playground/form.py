"""The playground's form as a body for the API; the API alone judges what stands in it."""

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
    """Return the form's fields as they were filled in."""
    form = {name: given.get(name, default) for name, default in DEFAULTS.items()}
    # Browsers send the lines of a text with the line ends of a typewriter.
    for name in ("system", "prompt", "stop"):
        form[name] = form[name].replace("\r\n", "\n")
    return form


def has_parameters(form: Mapping[str, str]) -> bool:
    """Say whether a parameter differs from what the form begins with."""
    return any(form[name] != DEFAULTS[name] for name in (*NUMBERS, "stop"))


def body_of(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the request that the form describes; what is no number stays what it is."""
    body = _prompt(form)
    for name, read in NUMBERS.items():
        if text := form[name].strip():
            body[name] = _number(text, read)
    if stop := [line for line in form["stop"].split("\n") if line]:
        body["stop"] = stop
    return body


def field_faults(faults: Mapping[str, str]) -> dict[str, str]:
    """Return the API's faults by the form's fields; what belongs to none stands under its name."""
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
    # JSON has no word for them, and the API refuses the text by the field's name.
    return number if abs(number) < float("inf") else text


def _field(param: str) -> str:
    if param.startswith("messages.0."):
        return "system"
    name = param.partition(".")[0]
    return {"messages": "prompt", "promptMode": "mode"}.get(name, name)
