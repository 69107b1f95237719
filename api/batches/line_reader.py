"""Reads the lines of a batch's file one by one.

The caller passes the parser of the file's format.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from api.generation.validation import NATIVE_NAMES, FieldNames
from api.http.json_input import BOM
from core.concurrency.greenlets import Yielder
from core.errors import ApiError, FieldFault, InvalidRequest
from core.generation import Generation

MAX_CUSTOM_ID_LENGTH = 512
#: Blank lines are skipped; this bounds the blank lines that are read for each allowed line.
PHYSICAL_LINES_EACH = 10
SKIP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LineRequest:
    """The request of one line, and its custom id.

    Attributes:
        may_shorten: the line does not set `max_tokens`: it may be lowered to the room there is.
        names: the line's names of its fields.
    """

    custom_id: str | None
    generation: Generation
    may_shorten: bool = False
    names: FieldNames = NATIVE_NAMES


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A line by its number in the file, with its generation or its fault.

    Attributes:
        custom_id: an invalid line has it too, if it can be parsed.
    """

    number: int
    custom_id: str | None = None
    generation: Generation | None = None
    fault: FieldFault | None = None
    may_shorten: bool = False
    names: FieldNames = NATIVE_NAMES


#: Parses one line. Raises `ApiError` if it is not valid.
LineParser = Callable[[bytes], LineRequest]


@dataclass(frozen=True, slots=True)
class LineLimits:
    """The most lines of a file, and the most bytes of one line."""

    max_lines: int
    max_bytes: int


def read_lines(
    file: IO[bytes], read_line: LineParser, limits: LineLimits, yielder: Yielder
) -> Iterator[BatchLine]:
    """Yield the lines of a file that are not blank.

    Raises:
        InvalidRequest: the file has too many lines.
    """
    count = 0
    for number, data in _physical_lines(file, limits, yielder):
        yielder.yield_if_due()
        if data is not None and not data:
            continue
        count += 1
        if count > limits.max_lines:
            raise _too_many(limits)
        if data is None:
            fault = FieldFault("", f"it has more than {limits.max_bytes} bytes")
            yield BatchLine(number, fault=fault)
            continue
        try:
            request = read_line(data)
        except ApiError as error:
            yield BatchLine(number, custom_id=find_custom_id(data), fault=first_fault(error))
        else:
            yield BatchLine(
                number,
                request.custom_id,
                request.generation,
                may_shorten=request.may_shorten,
                names=request.names,
            )


def first_fault(error: ApiError) -> FieldFault:
    """Return the first fault of an error."""
    first = error.fields[0] if error.fields else FieldFault(error.param or "", error.message)
    return FieldFault(first.param, first.message)


@contextmanager
def prefix_fields(names: FieldNames) -> Iterator[None]:
    """Prefix the fields that errors of this block name with `names.parent`."""
    try:
        yield
    except ApiError as error:
        fault = first_fault(error)
        if names.parent is None or not fault.param:
            raise
        param = f"{names.parent}.{fault.param}"
        message = fault.message
        if message.startswith(f"{fault.param} "):
            message = f"{names.parent}.{message}"
        raise InvalidRequest(message, param=param) from None


def find_custom_id(data: bytes) -> str | None:
    """Return the custom id of an invalid line, if it has one that can be stored."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    name = found.get("custom_id", found.get("customId"))
    if not isinstance(name, str) or not 0 < len(name) <= MAX_CUSTOM_ID_LENGTH:
        return None
    return name if "\x00" not in name and _is_unicode(name) else None


def _physical_lines(
    file: IO[bytes], limits: LineLimits, yielder: Yielder
) -> Iterator[tuple[int, bytes | None]]:
    """Yield the number and the stripped bytes of each line; `None` for one that is too long."""
    number = 0
    while piece := file.readline(limits.max_bytes + len(BOM) + 2):
        number += 1
        yielder.yield_if_due()
        if number > limits.max_lines * PHYSICAL_LINES_EACH:
            raise _too_many(limits)
        if number == 1:
            piece = piece.removeprefix(BOM)
        data = piece.strip(b" \t\r\n")
        if len(data) <= limits.max_bytes:
            yield number, data
        else:
            yield number, None
        while piece and not piece.endswith(b"\n"):
            piece = file.readline(SKIP_BYTES)
            yielder.yield_if_due()


def _too_many(limits: LineLimits) -> InvalidRequest:
    return InvalidRequest(f"a file may have at most {limits.max_lines} lines", param="file")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
