"""Files of batches: their upload and their lines."""

from __future__ import annotations

import json
from io import BytesIO

from flask import request

from api.batches.generation_line import read_generation_line
from api.batches.line_reader import LineLimits, LineParser, read_lines
from api.batches.new_batch import plan_upload
from api.batches.upload import FORM_TYPE, JSONL_TYPES, receive_file
from api.batches.validation import LineRules, LineValidator
from api.services import services
from api.v1.batches.file_form import clean_name, read_options
from api.v1.batches.line import Endpoint, line_parser
from core.concurrency.greenlets import Yielder
from tests.fuzz.programs import api_app, requested, settings
from tests.fuzz.target import Target, fields, refusals_are_fine

LIMITS = LineLimits(max_lines=200, max_bytes=16 * 1024)


def _rules() -> LineRules:
    program = services()
    context = program.prompts.tokenizer.context_length
    return LineRules(program.settings, program.prompts.tokenizer, program.prompts.counter, context)


def _check_lines(read_line: LineParser, data: bytes) -> None:
    """Check lines as `create_batch` does, up to its transaction."""
    rows = BytesIO()
    checks = LineValidator(_rules(), rows, Yielder())
    for _ in checks.run(read_lines(BytesIO(data), read_line, LIMITS, Yielder())):
        pass
    checked = checks.checked
    written = [json.loads(row) for row in rows.getvalue().splitlines()]
    assert len(written) == checked.total, (len(written), checked)
    if checked.rejected:
        raise checked.refusal()


def _lines(data: bytes) -> None:
    with requested(api_app()), refusals_are_fine():
        _check_lines(read_generation_line, data)


def _v1_lines(data: bytes) -> None:
    endpoint = list(Endpoint)[data[0] % len(Endpoint)] if data else Endpoint.CHAT
    with requested(api_app()), refusals_are_fine():
        _check_lines(line_parser(endpoint, services()), data[1:])


def _upload(data: bytes) -> None:
    """Upload a body. The first three lines are its content type, its length and the query."""
    content_type, length, query, body = fields(data, 4)
    given = {"length": length} if length.isascii() and length.isdigit() else {}
    with (
        requested(
            api_app(),
            method="POST",
            query=query.encode("latin-1"),
            body=body.encode("latin-1"),
            content_type=content_type,
            **given,
        ),
        refusals_are_fine(),
        receive_file(request, settings(), charge=lambda size: None) as upload,
    ):
        assert upload.size <= len(body)
        name = clean_name(upload.filename)
        assert name and name.isprintable() and len(name) < 256
        with refusals_are_fine():
            read_options(upload.options)
        plan_upload(
            upload.options,
            settings(),
            sha256=upload.sha256,
            idempotency_key=None,
            request_id="req_fuzz",
        )


def _line(**line: object) -> bytes:
    return json.dumps(line).encode() + b"\n"


_PART = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
_FORM = (
    _PART % (b"file", b'; filename="a.jsonl"', b'{"prompt": "x"}')
    + _PART % (b"purpose", b"", b"batch")
    + _PART % (b"metadata", b"", b'{"a": "b"}')
    + b"--b--\r\n"
)

TARGETS = (
    Target(
        "lines",
        _lines,
        (
            b"\xef\xbb\xbf" + _line(customId="a", prompt="x", maxTokens=3) + b" \r\n",
            _line(custom_id="a", prompt="x") + _line(customId="a", prompt="y") + b"{}\nnull\n[1]\n",
        ),
        (b'"customId":', b'"custom_id":', b'"prompt":', b'"messages":', b"\n", b"\r\n", b"\\ud800"),
    ),
    Target(
        "v1-lines",
        _v1_lines,
        (
            b"\0"
            + _line(
                custom_id="a",
                method="POST",
                url="/v1/chat/completions",
                body={"messages": [{"role": "user", "content": "x"}]},
            ),
            b"\1"
            + _line(
                custom_id="a", method="POST", url="/v1/completions", body={"prompt": "x", "n": 1}
            ),
        ),
        (b'"custom_id":', b'"method":', b'"url":', b'"body":', b"\n", b"null", b"\\udfff"),
    ),
    Target(
        "upload",
        _upload,
        (
            f"{FORM_TYPE}; boundary=b\n\nonError=skip\n".encode() + _FORM,
            f"{JSONL_TYPES[0]}\n\nname=n&completionWindow=7d&metadata=%7B%7D\n".encode()
            + b'{"prompt": "x"}',
        ),
        (
            b"--b\r\n",
            b"--b--",
            b"Content-Disposition: form-data",
            b'; filename="',
            b"; filename*=utf-16''",
            b"; name=",
            b"Content-Transfer-Encoding: base64\r\n",
            b"Content-Type: text/plain; charset=utf-7\r\n",
            b"expires_after[seconds]",
            b"boundary=",
            b"%00",
            b"%ff",
        ),
    ),
)
