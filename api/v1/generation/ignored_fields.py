"""Fields of OpenAI's requests that this service does not support.

A field that would change the completion is rejected by its name, unless its value has no effect.
Other fields are ignored, so that existing programs work unchanged.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

from core.generation import Body

#: Any value is accepted: no completion depends on it.
Ignored = Any


class OpenAIBody(Body):
    """The base of the bodies of `/v1`, whose fields are in snake_case."""

    model_config = ConfigDict(alias_generator=None)


def reject_unless(*harmless: Any) -> BeforeValidator:
    """Return a validator that accepts only null and the `harmless` values."""

    def check(value: Any, info: ValidationInfo) -> Any:
        # Compare types too: 0 equals `False`.
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            return value
        raise ValueError(
            f"{info.field_name} is not supported by this service: see /api/docs for what is"
        )

    schema = WithJsonSchema({"enum": [None, *harmless]})
    return BeforeValidator(check, json_schema_input_type=Annotated[Any, schema])
