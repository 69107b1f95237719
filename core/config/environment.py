"""Settings and the environment: a model's fields are read from the variables of their names, in
capitals, and documented by them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from core.config.secret_files import read_secret_files
from core.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)


def secret_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the variables that are secret: each may also stand in a file."""
    fields = model.model_fields.items()
    return tuple(name.upper() for name, field in fields if field.annotation is SecretStr)


def read_environment(model: type[Model], environment: Mapping[str, str]) -> Model:
    """Read a model's variables, secrets also from their files; empty ones count as not given.

    Raises:
        SettingsError: with one line for each fault, all at once.
    """
    environment, file_faults = read_secret_files(environment, secret_names(model))
    values = {
        name: environment[name.upper()]
        for name in model.model_fields
        if environment.get(name.upper(), "") != ""
    }
    faults = list(file_faults.values())
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        # Of a secret whose file is wrong, that it is missing says nothing new.
        faults += [line for line in _fault_lines(error) if line.split()[0] not in file_faults]
    if faults:
        raise SettingsError(faults)
    return settings


def settings_table(model: type[BaseModel]) -> str:
    """Return all settings as a Markdown table: `docs/settings.md` holds exactly this."""
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, field in model.model_fields.items():
        default = field.default
        if field.is_required():
            shown = "required"
        elif default == "":
            shown = "none"
        elif isinstance(default, SecretStr):
            shown = f"`{default.get_secret_value()}`"
        else:
            shown = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows) + "\n"


def _fault_lines(error: ValidationError) -> list[str]:
    lines = []
    for fault in error.errors():
        message = fault["msg"].removeprefix("Value error, ")
        name = str(fault["loc"][0]).upper() if fault["loc"] else ""
        if fault["type"] == "missing":
            message = "must be set"
        lines += [f"{name} {line}".strip() for line in message.splitlines()]
    return lines
