"""The type of whole numbers in JSON bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Whole:
    """Mark an `int` of a body: `Annotated[int, Whole(ge=1, le=8)]`.

    5 and 5.0 are the same number (JSON Schema 2020-12, `integer`). Digits in quotation marks,
    fractions and `true` are refused.

    Attributes:
        ge: the least number allowed, if there is one.
        le: the greatest number allowed, if there is one.
    """

    ge: int | None = None
    le: int | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # The bounds are inside: around the function, the published schema would lose them.
        return core_schema.no_info_before_validator_function(
            _as_integer, core_schema.int_schema(strict=True, ge=self.ge, le=self.le)
        )


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
