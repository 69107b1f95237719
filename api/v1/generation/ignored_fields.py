"""Fields of OpenAI's requests that this service does not act on.

One that would change the answer is refused, by its name, unless its value asks for nothing. One
that would not is taken, so that programs need not be changed.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationInfo, WithJsonSchema

from core.generation import Body

#: Taken, whatever it says: no answer depends on it.
Ignored = Any


class OpenAIBody(Body):
    """The base of bodies of `/v1`: snake_case only."""

    model_config = ConfigDict(alias_generator=None)


def refused_unless(*harmless: Any) -> BeforeValidator:
    """Return the validator of a field that is refused unless it is null or one of these values."""

    def check(value: Any, info: ValidationInfo) -> Any:
        # 0 equals `False`, but does not say the same.
        if value is None or any(type(value) is type(one) and value == one for one in harmless):
            return value
        raise ValueError(
            f"{info.field_name} is not supported by this service: see /api/docs for what is"
        )

    schema = WithJsonSchema({"enum": [None, *harmless]})
    return BeforeValidator(check, json_schema_input_type=Annotated[Any, schema])
