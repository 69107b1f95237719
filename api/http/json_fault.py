"""Explains why a text is not JSON: the position, the reason, and the remedy."""

from __future__ import annotations

import json
import re

from api.http.content_encoding import compression_of
from core.errors import InvalidRequest

#: Bounds of the parser.
MAX_DEPTH = 200
MAX_DIGITS = 4300

_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_WORD = re.compile(r"[A-Za-z_$][\w$]*")
#: Our reason for each message of Python's parser, by its first words.
_REASONS = {
    "Unterminated string": "this string has no end",
    "Invalid control character": "write a line break in a string as \\n, a tab as \\t",
    "Invalid \\": "no such escape: write a backslash in a string as \\\\",
    "Extra data": "send one JSON value and nothing after it",
    "Expecting ':'": "a colon is missing",
    "Expecting ','": "a comma or a closing bracket is missing",
    "Expecting property": "write the name of a field in double quotes",
    "Expecting value": "a value is missing",
}


def json_fault(data: bytes, reason: str, *, of: str, is_line: bool = False) -> InvalidRequest:
    """Return the error for `data`, which the parser refused.

    Args:
        reason: the reason of the parser.
        of: the name of the text in messages, such as "the body".
        is_line: the text is one line of a file; the caller adds the number of the line.
    """
    if not data.strip():
        return _not_json(f"{of} is empty: send a JSON object")
    if (compression := compression_of(data)) is not None:
        return _not_json(f"{of} is compressed ({compression}): send it uncompressed")
    if data.startswith(_UTF_16_MARKS) or b"\x00" in data[:4]:
        return _not_json(f"{of} is not UTF-8, but UTF-16 or UTF-32: send it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        where = _position(before, len(before), is_line=is_line)
        return _not_json(
            f"{of} is not valid UTF-8 at {where}: byte 0x{data[error.start]:02X}; send it as UTF-8"
        )
    return _limit_fault(data, reason, of, is_line) or _syntax_fault(text, reason, of, is_line)


def _limit_fault(data: bytes, reason: str, of: str, is_line: bool) -> InvalidRequest | None:
    """Return the error for valid JSON that exceeds a bound of the parser."""
    if reason.startswith("recursion limit"):
        return InvalidRequest(f"{of} has more than {MAX_DEPTH} brackets within each other")
    number = _LONG_NUMBER.search(data) if reason.startswith("number out of range") else None
    if number is None:
        return None
    before = data[: number.start()].decode()
    where = _position(before, len(before), is_line=is_line)
    return InvalidRequest(f"{of} has a number with more than {MAX_DIGITS} digits at {where}")


def _syntax_fault(text: str, reason: str, of: str, is_line: bool) -> InvalidRequest:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        where = _position(text, error.pos, is_line=is_line)
        return _not_json(f"{of} is not valid JSON at {where}: {_reason(text, error, reason)}")
    except (ValueError, RecursionError):
        pass
    return _not_json(f"{of} is not valid JSON")


def _reason(text: str, error: json.JSONDecodeError, parser_reason: str) -> str:
    rest = text[error.pos : error.pos + 40]
    if not rest.strip():
        return "the text ends too early"
    if error.msg.startswith("Unterminated"):
        return _REASONS["Unterminated string"]
    if rest[0] == "'":
        return "write strings and names in double quotes"
    if rest[0] == "#" or rest.startswith(("//", "/*")):
        return "JSON has no comments: remove it"
    if rest[0] in "]}" and text[: error.pos].rstrip()[-1:] == ",":
        return "remove the comma before the closing bracket"
    if parser_reason.startswith("invalid number") or rest[0] in "+.":
        return "write numbers as 10 or 0.5: without plus signs, and no zero first"
    word = _WORD.match(rest)
    if error.msg.startswith("Expecting value") and word is not None:
        return (
            f"{word[0]} is not a JSON value: write a string in double quotes, or true, false, null"
        )
    return next(
        (reason for words, reason in _REASONS.items() if error.msg.startswith(words)),
        "a value is missing",
    )


def _position(text: str, position: int, *, is_line: bool) -> str:
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    if is_line:
        return f"column {column}"
    return f"line {text.count(chr(10), 0, position) + 1}, column {column}"


def _not_json(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_json")
