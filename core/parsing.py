"""A whole number as JSON writes it: 5 and 5.0 are the same one (JSON Schema 2020-12, `integer`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True, slots=True)
class Whole:
    """Marks an `int` of a body: `Annotated[int, Whole(ge=1, le=8)]`.

    It takes no digits in quotation marks, no fractions and no `true`.

    Attributes:
        ge: the least that is taken.
        le: the most that is taken.
    """

    ge: int | None = None
    le: int | None = None

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        # The bounds are inside: around the function the schema for callers would lose them.
        return core_schema.no_info_before_validator_function(
            _as_integer, core_schema.int_schema(strict=True, ge=self.ge, le=self.le)
        )


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
