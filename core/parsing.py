"""Parses whole numbers: of JSON bodies, and of text such as a query, a header or a form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

#: The default bound of a parsed number.
NINE_DIGITS = 999_999_999


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


def bounded_integer(text: str, *, least: int = 0, most: int = NINE_DIGITS) -> int | None:
    """Return the number that `text` writes in ASCII digits, or `None` if there is no such number.

    Text with a sign, spaces or more digits than `most` has is refused before it is converted.
    """
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return None
    number = int(text)
    return number if least <= number <= most else None


def _as_integer(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
