"""Explains why a text is no JSON: the place in it, the reason, and what to do."""

from __future__ import annotations

import json
import re

from api.http.content_encoding import packing_of
from core.errors import InvalidRequest

#: Those of the parser.
MAX_DEPTH = 200
MAX_DIGITS = 4300

_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (MAX_DIGITS + 1))
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_WORD = re.compile(r"[A-Za-z_$][\w$]*")
#: By the beginning of the words of Python's parser; they never reach a caller.
_REASONS = {
    "Unterminated string": "this string has no end",
    "Invalid control character": "write a line break in a string as \\n, a tab as \\t",
    "Invalid \\": "no such escape: write a backslash in a string as \\\\",
    "Extra data": "send one JSON value and nothing behind it",
    "Expecting ':'": "a colon is missing",
    "Expecting ','": "a comma or a closing bracket is missing",
    "Expecting property": "write the name of a field in double quotes",
    "Expecting value": "a value is missing",
}


def json_fault(data: bytes, said: str, *, of: str, is_line: bool = False) -> InvalidRequest:
    """Return the error about `data`, which the parser refused.

    Args:
        said: the parser's own reason.
        of: how the text is called: "the body".
        is_line: the text is one line of a file, whose number the caller tells.
    """
    if not data.strip():
        return _not_json(f"{of} is empty: send a JSON object")
    if (packing := packing_of(data)) is not None:
        return _not_json(f"{of} is packed ({packing}): send it unpacked")
    if data.startswith(_UTF_16_MARKS) or b"\x00" in data[:4]:
        return _not_json(f"{of} is not UTF-8, but UTF-16 or UTF-32: send it as UTF-8")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        where = _place(before, len(before), is_line=is_line)
        return _not_json(
            f"{of} is not valid UTF-8 at {where}: byte 0x{data[error.start]:02X}; send it as UTF-8"
        )
    return _limit_fault(data, said, of, is_line) or _syntax_fault(text, said, of, is_line)


def _limit_fault(data: bytes, said: str, of: str, is_line: bool) -> InvalidRequest | None:
    """Return the error about JSON that is valid, but more than the parser takes."""
    if said.startswith("recursion limit"):
        return InvalidRequest(f"{of} has more than {MAX_DEPTH} brackets within each other")
    number = _LONG_NUMBER.search(data) if said.startswith("number out of range") else None
    if number is None:
        return None
    before = data[: number.start()].decode()
    where = _place(before, len(before), is_line=is_line)
    return InvalidRequest(f"{of} has a number with more than {MAX_DIGITS} digits at {where}")


def _syntax_fault(text: str, said: str, of: str, is_line: bool) -> InvalidRequest:
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        where = _place(text, error.pos, is_line=is_line)
        return _not_json(f"{of} is not valid JSON at {where}: {_reason(text, error, said)}")
    except (ValueError, RecursionError):
        pass
    return _not_json(f"{of} is not valid JSON")


def _reason(text: str, error: json.JSONDecodeError, said: str) -> str:
    rest = text[error.pos : error.pos + 40]
    if not rest.strip():
        return "it ends too soon"
    if error.msg.startswith("Unterminated"):
        return _REASONS["Unterminated string"]
    if rest[0] == "'":
        return "write strings and names in double quotes"
    if rest[0] == "#" or rest.startswith(("//", "/*")):
        return "JSON has no comments: remove it"
    if rest[0] in "]}" and text[: error.pos].rstrip()[-1:] == ",":
        return "remove the comma before the closing bracket"
    if said.startswith("invalid number") or rest[0] in "+.":
        return "write numbers as 10 or 0.5: without plus signs, and no zero first"
    word = _WORD.match(rest)
    if error.msg.startswith("Expecting value") and word is not None:
        return f"{word[0]} is no JSON value: write a string in double quotes, or true, false, null"
    return next(
        (reason for words, reason in _REASONS.items() if error.msg.startswith(words)),
        "a value is missing",
    )


def _place(text: str, position: int, *, is_line: bool) -> str:
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    if is_line:
        return f"column {column}"
    return f"line {text.count(chr(10), 0, position) + 1}, column {column}"


def _not_json(message: str) -> InvalidRequest:
    return InvalidRequest(message, code="invalid_json")
