"""Reads and documents settings: each field of a model is an environment variable in capitals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

from core.config.secret_files import read_secret_files
from core.errors import SettingsError

Model = TypeVar("Model", bound=BaseModel)


def secret_names(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the variables of secrets, which files may also provide."""
    fields = model.model_fields.items()
    return tuple(name.upper() for name, field in fields if field.annotation is SecretStr)


def read_environment(model: type[Model], environment: Mapping[str, str]) -> Model:
    """Read the variables of a model, and secrets from their files; ignore empty values.

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
        # A secret with a faulty file would also be reported as missing.
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
            value = "required"
        elif default == "":
            value = "none"
        elif isinstance(default, SecretStr):
            value = f"`{default.get_secret_value()}`"
        else:
            value = f"`{str(default).lower() if isinstance(default, bool) else default}`"
        rows.append(f"| `{name.upper()}` | {value} | {field.description} |")
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
