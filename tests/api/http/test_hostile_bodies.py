"""Compressed, deeply nested and huge bodies are refused cheaply."""

from __future__ import annotations

import gzip
import json

import pytest

from api.http.body import read_body
from core.errors import InvalidRequest, UnsupportedMediaType
from core.generation import Generation
from tests.fuzz.programs import api_app, requested


def refusal(body: bytes, **headers: str) -> InvalidRequest:
    with requested(
        api_app(), method="POST", body=body, content_type="application/json", headers=headers
    ):
        with pytest.raises(InvalidRequest) as raised:
            read_body(Generation)
        return raised.value


COMPRESSED = gzip.compress(json.dumps({"prompt": "x" * 5_000_000}).encode())


def test_a_compressed_body_is_not_decompressed() -> None:
    headers = {"content-encoding": "gzip"}
    with (
        requested(
            api_app(),
            method="POST",
            body=COMPRESSED,
            content_type="application/json",
            headers=headers,
        ),
        pytest.raises(UnsupportedMediaType, match="Content-Encoding") as raised,
    ):
        read_body(Generation)

    assert raised.value.param == "Content-Encoding"
    assert raised.value.headers == {"Accept-Encoding": "identity"}


def test_a_compressed_body_without_a_content_encoding_is_recognized() -> None:
    error = refusal(COMPRESSED)

    assert (error.code, error.message) == (
        "invalid_json",
        "the body is compressed (gzip): send it uncompressed",
    )


def test_deep_json_is_refused_and_breaks_nothing() -> None:
    deep = b'{"prompt": ' + b"[" * 200_000 + b"]" * 200_000 + b"}"

    assert refusal(deep).message == "the body has more than 200 brackets within each other"


def test_the_error_for_long_field_names_is_bounded() -> None:
    names = {f"{number}{'x' * 50_000}": 1 for number in range(30)}

    error = refusal(json.dumps({"prompt": "x", **names}).encode())

    assert len(error.fields) == 20
    assert len(json.dumps(error.body("r"))) < 20_000
    assert error.fields[0].param.startswith("0xxx")
    assert error.fields[0].param.endswith("x…")
