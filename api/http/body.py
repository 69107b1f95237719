"""Reads a request's body into a typed value; what is wrong with it is told at once."""

from __future__ import annotations

from typing import TypeVar

from flask import request

from api.http.content_encoding import refuse_coding
from api.http.json_input import read_json
from api.runtime.load_shedding import pause_admission
from api.services import services
from core.concurrency.greenlets import at_most
from core.errors import PayloadTooLarge, RequestTimeout, UnsupportedMediaType
from core.generation import MOST_TOKENS, Body

B = TypeVar("B", bound=Body)

#: Bodies without a prompt have a few short fields: longer ones are not even parsed.
SMALL_BODY_BYTES = 64 * 1024


def read_body(kind: type[B]) -> B:
    """Return the request's JSON body as `kind`.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or it is packed.
        RequestTimeout: it has not arrived within `BODY_SECONDS`.
        PayloadTooLarge: it has more bytes than it may have.
        InvalidRequest: `invalid_json`, or one fault for each wrong field.
    """
    if not kind.may_be_large:
        most = request.max_content_length
        request.max_content_length = min(most or SMALL_BODY_BYTES, SMALL_BODY_BYTES)
    return parse_body(kind, receive_json())


def receive_json() -> bytes:
    """Return the bytes of the request's JSON body.

    Raises:
        UnsupportedMediaType: the body is not declared as JSON, or it is packed.
        RequestTimeout: it has not arrived within `BODY_SECONDS`.
        PayloadTooLarge: it has more bytes than it may have.
    """
    if not request.is_json:
        raise UnsupportedMediaType("send JSON with `Content-Type: application/json`")
    refuse_coding(request)
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
        # What still comes of it must not be taken for a next request.
        raise RequestTimeout(
            "the body did not arrive in time", headers={"Connection": "close"}
        ) from None
    if request.content_length is None and len(data) >= (request.max_content_length or 0):
        # Werkzeug cuts a body without a length at the limit and says nothing.
        raise PayloadTooLarge("the body is larger than this service takes")
    return data
