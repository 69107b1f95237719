"""Reads the body of a request into a typed value, and reports all its faults at once."""

from __future__ import annotations

from typing import TypeVar

from flask import request

from api.http.content_encoding import check_content_encoding
from api.http.json_input import read_json
from api.runtime.load_shedding import pause_admission
from api.services import services
from core.concurrency.greenlets import at_most
from core.errors import PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from core.generation import MOST_TOKENS, Body

B = TypeVar("B", bound=Body)

#: The bound of bodies without a prompt, which have a few short fields.
SMALL_BODY_BYTES = 64 * 1024


def read_body(kind: type[B]) -> B:
    """Return the request's JSON body as `kind`.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or it is compressed.
        RequestTimeout: the body did not arrive within `BODY_SECONDS`.
        PayloadTooLarge: the body has more bytes than allowed.
        InvalidRequest: `invalid_json`, or one fault for each wrong field.
    """
    if not kind.may_be_large:
        most = request.max_content_length
        request.max_content_length = min(most or SMALL_BODY_BYTES, SMALL_BODY_BYTES)
    return parse_body(kind, receive_json())


def receive_json() -> bytes:
    """Return the bytes of the request's JSON body.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or it is compressed.
        RequestTimeout: the body did not arrive within `BODY_SECONDS`.
        PayloadTooLarge: the body has more bytes than allowed.
    """
    if not request.is_json:
        raise UnsupportedMediaType("send JSON with `Content-Type: application/json`")
    check_content_encoding(request)
    return _read_bytes()


def parse_body(kind: type[B], data: bytes) -> B:
    """Return the bytes of a body as `kind`.

    Raises:
        InvalidRequest: `invalid_json`, or one fault for each wrong field.
    """
    context = {MOST_TOKENS: services().settings.max_tokens_limit}
    return read_json(kind, data, of="the body", context=context)


def _read_bytes() -> bytes:
    try:
        with pause_admission(), at_most(services().settings.body_seconds):
            data = request.get_data(cache=False)
    except TimeoutError:
        # The server must not read the rest of the body as the next request.
        raise RequestTimeout(
            "the body did not arrive in time", headers={"Connection": "close"}
        ) from None
    if request.content_length is None and len(data) >= (request.max_content_length or 0):
        # Werkzeug truncates a body without a length at the limit, without an error.
        raise PayloadTooLarge("the body is larger than this service accepts")
    return data
