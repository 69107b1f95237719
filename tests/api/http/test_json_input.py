"""Malformed JSON, and JSON that exceeds a bound."""

from __future__ import annotations

import gc
import json
import time
from typing import Any

import pytest

from api.batches.generation_line import read_generation_line
from api.http.json_input import BOM, read_json
from core.errors import InvalidRequest
from core.generation import Generation

LARGE = 2_000_000
#: Of processor time, with room for a machine slower than all that were measured.
MAX_SECONDS = 1.5


def read(data: bytes) -> Generation:
    return read_json(Generation, data, of="the body")


def refusal(data: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        read(data)
    return raised.value


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"prompt": "a",}', "line 1, column 16: remove the comma before the closing bracket"),
        (b'{"prompt": ["a",]}', "line 1, column 17: remove the comma before the closing bracket"),
        (b"{'prompt': 1}", "line 1, column 2: write strings and names in double quotes"),
        (b"{\"prompt\": 'a'}", "line 1, column 12: write strings and names in double quotes"),
        (b'{"prompt": "a"} // x', "line 1, column 17: JSON has no comments: remove it"),
        (b'{\n"stop": [], # x\n}', "line 2, column 13: JSON has no comments: remove it"),
        (b'{"prompt": "a\nb"}', "line 1, column 14: write a line break in a string as \\n"),
        (b'{"prompt": "a\\q"}', "line 1, column 14: no such escape"),
        (b'{"prompt": None}', "line 1, column 12: None is not a JSON value"),
        (b'{prompt: "a"}', "line 1, column 2: write the name of a field in double quotes"),
        (b'{"prompt" "a"}', "line 1, column 11: a colon is missing"),
        (b'{"a": 1 "b": 2}', "line 1, column 9: a comma or a closing bracket is missing"),
        (b'{"seed": 01}', "line 1, column 11: write numbers as 10 or 0.5"),
        (b'{"seed": +1}', "line 1, column 10: write numbers as 10 or 0.5"),
        (b'{"topP": .5}', "line 1, column 10: write numbers as 10 or 0.5"),
        (b'{"a": 1} {"b": 2}', "line 1, column 10: send one JSON value and nothing after it"),
        (b'{"prompt": "a"', "line 1, column 15: the text ends too early"),
        (b'{"prompt":\n  "a', "line 2, column 3: this string has no end"),
        ('{"prompt": "é" x}'.encode(), "line 1, column 16: a comma or a closing bracket"),
    ],
)
def test_the_error_for_malformed_json_has_position_and_reason(data: bytes, expected: str) -> None:
    error = refusal(data)

    assert error.code == "invalid_json"
    assert error.message.startswith(f"the body is not valid JSON at {expected}")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the body is empty: send a JSON object"),
        (b" \n", "the body is empty: send a JSON object"),
        ('{"prompt": "é"}'.encode("latin-1"), "not valid UTF-8 at line 1, column 13: byte 0xE9"),
        ('{"prompt": "é"}'.encode("utf-16"), "not UTF-8, but UTF-16 or UTF-32"),
        (b'{"prompt": "\xff'.decode("latin-1").encode("utf-16-be"), "not UTF-8, but UTF-16"),
        (b"\x1f\x8b\x08\x00", "the body is compressed (gzip): send it uncompressed"),
    ],
)
def test_the_error_for_bytes_that_are_no_text_names_their_encoding(
    data: bytes, expected: str
) -> None:
    error = refusal(data)

    assert error.code == "invalid_json"
    assert expected in error.message


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"seed": ' + b"9" * 5000 + b"}", "more than 4300 digits at line 1, column 10"),
        (b'{"prompt": ' + b"[" * 201 + b"]" * 201 + b"}", "more than 200 brackets within each"),
    ],
)
def test_the_error_for_valid_json_beyond_a_bound_is_no_syntax_error(
    data: bytes, expected: str
) -> None:
    error = refusal(data)

    assert error.code == "invalid_request"
    assert expected in error.message


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        (r'{"prompt": "// \ud83d"}', "// �"),
        (r'{"prompt": "\ude00 \ud83d\ude00"}', "� 😀"),
        (r'{"prompt": "\\ud83d \ud83d"}', r"\ud83d �"),
        (r'{"prompt": "\uD83D"}', "�"),
    ],
)
def test_half_of_a_character_becomes_the_replacement_character(text: str, prompt: str) -> None:
    assert read(text.encode()).prompt == prompt
    assert read_generation_line(text.encode()).generation.prompt == prompt


def test_a_byte_order_mark_is_ignored() -> None:
    assert read(BOM + b'{"prompt": "x"}').prompt == "x"


def test_the_error_for_a_line_of_a_file_has_only_the_column() -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_generation_line(b'{"prompt": "a",}')

    message = raised.value.message
    assert message.startswith("it is not valid JSON at column 16: remove the comma")


@pytest.mark.alone
@pytest.mark.parametrize(
    "data",
    [
        b'{"prompt":"' + b"x" * LARGE + b'",}',
        b'{"prompt":"' + b"\\ud83d" * (LARGE // 6) + b'"}',
        b'{"prompt":"' + b"\\\\" * (LARGE // 2) + b'\\ud83d"',
        b"\n" * LARGE + b"x",
        b"[" * LARGE,
        b'{"a":' * (LARGE // 5),
        b"9" * LARGE,
        b"[" + b"1," * (LARGE // 2) + b"]]",
        b"[" + b"{}," * (LARGE // 3) + b'"\\ud83d"]',
        b'"\\' * (LARGE // 2),
        json.dumps({f"k{number}": 1 for number in range(150_000)}).encode(),
        json.dumps({"messages": [[]] * 500_000}).encode(),
        json.dumps({"prompt": "x", "stop": [[]] * 500_000}).encode(),
        json.dumps({"prompt": "x", "metadata": {str(n): 1 for n in range(150_000)}}).encode(),
    ],
    ids=lambda data: data[:12].decode(),
)
def test_no_malformed_body_takes_long(data: bytes) -> None:
    gc.collect()
    gc.freeze()  # as the API's processes do
    began = time.process_time()
    outcome: Any
    try:
        outcome = read(data)
    except InvalidRequest as error:
        outcome = error
        assert len(error.message) < 10_000

    seconds = time.process_time() - began
    gc.unfreeze()

    assert outcome is not None
    assert seconds < MAX_SECONDS
