"""Untrusted values that we call, calculate with, or render."""

from __future__ import annotations

import csv
import io
import json
import shlex
from datetime import UTC, datetime

from werkzeug.datastructures import MultiDict

from admin_ui.keys.form import body_of, entered_values
from admin_ui.playground.form import body_of as generation_of
from admin_ui.playground.form import read_form
from admin_ui.web.page import local_url
from admin_ui.widgets.code_samples import SECRET_VARIABLE, code_samples
from admin_ui.widgets.formats import breakable
from admin_ui.widgets.time_range import TimePreset, read_time_range, read_zone
from core.text.csv_cells import csv_cell
from core.webhooks.target import _literal, check_webhook_url, is_allowed
from tests.fuzz.programs import admin_app, api_app, requested, settings
from tests.fuzz.target import Target, fields, refusals_are_fine
from worker.text.fenced_code import FencedCode
from worker.text.stop_strings import StopScanner, StopStrings

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
#: Size of a form whose code samples are parsed: that takes longest here.
MOST_READ = 4096
#: Longest stop string.
MOST_STOP = 256


def _webhook(data: bytes) -> None:
    (url,) = fields(data, 1)
    with requested(api_app()), refusals_are_fine():
        target = check_webhook_url(url, settings())
        literal = _literal(target.host)
        assert literal is None or is_allowed(literal, ())
        head = f"{target.host_header}\n{target.path}"
        assert head.isascii() and head.replace("\n", "", 1).isprintable() and " " not in head
        assert target.port in {80, 443} or target.port >= 1024


def _form(data: bytes) -> None:
    """Read the fields of every form of the admin UI, as a browser sends them."""
    with (
        requested(
            admin_app(),
            method="POST",
            body=data,
            content_type="application/x-www-form-urlencoded",
        ) as environ,
        refusals_are_fine(),
    ):
        from flask import request

        form: MultiDict[str, str] = request.form
        assert environ["REQUEST_METHOD"] == "POST"
        for is_admin in (False, True):
            json.dumps(body_of(entered_values(form, is_admin=is_admin))).encode()
        body = generation_of(read_form(form))
        json.dumps(body, allow_nan=False).encode()
        for sample in code_samples("https://api.example", body):
            if len(data) <= MOST_READ:
                _check_sample(sample.name, sample.text)
        presets = list(TimePreset)
        zone = read_zone(form.get("zone"))
        time = read_time_range(form, NOW, presets=presets, default=TimePreset.ALL, zone=zone)
        assert time.faults or time.since is None or time.since.tzinfo
        assert time.until is None or time.until.tzinfo
        target_url = local_url(form.get("next"), "/")
        assert target_url.startswith("/") and not target_url.startswith(("//", "/\\"))
        assert "\n" not in target_url and "\r" not in target_url
        assert "<" not in str(breakable(form.get("name", ""))).replace("<wbr>", "")


def _check_sample(name: str, text: str) -> None:
    """Check that the body is only data in the rendered program."""
    if name == "python":
        compile(text, "sample", "exec")
    elif name == "curl":
        # Unlike a shell, `shlex` keeps a newline after a backslash.
        command = [word for word in shlex.split(text) if word != "\n"]
        assert command[0] == "curl" and command[-2] == "--data-raw" and len(command) == 8
        json.loads(command[-1])
    assert text.count(SECRET_VARIABLE) >= 1


def _stops(data: bytes) -> None:
    """Scan a text. Up to 8 lines are stop strings, the rest is the model's text."""
    *stop, text = (part.replace("\x00", "") for part in fields(data, 9))
    stop = [one[:MOST_STOP] for one in stop if one]
    scanner = StopScanner(StopStrings(stop))
    pieces = [scanner.push(text[at : at + 7]) for at in range(0, len(text), 7)]
    output = "".join(pieces) + scanner.flush()
    assert text.startswith(output)
    assert not any(one in output for one in stop)
    assert scanner.has_stopped or output == text
    code = FencedCode(StopScanner(StopStrings([*stop, "```"])))
    pieces = [code.push(text[at : at + 7]) for at in range(0, len(text), 7)]
    assert "".join(pieces) + code.flush() in text


def _cells(data: bytes) -> None:
    cells = data.decode("utf-8", "replace").split("\n")
    text = io.StringIO()
    csv.writer(text).writerow([csv_cell(cell) for cell in cells])
    (row,) = csv.reader(io.StringIO(text.getvalue(), newline=""))
    for cell, read in zip(cells, row, strict=True):
        assert read in (cell, f"'{cell}")
        assert not read.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))


TARGETS = (
    Target(
        "webhook",
        _webhook,
        (
            b"https://example.com:8443/a%20b?c=d#e",
            b"http://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]:80/",
            b"https://0x7f.1/",
        ),
        (
            *(b"https://", b"http://", b"127.0.0.1", b"[::1]", b"[::ffff:7f00:1]", b"localhost"),
            *(b"@", b":", b"//", b"#", b"?", b"%2e", b".", b"0x7f000001", b"169.254.169.254"),
        ),
    ),
    Target(
        "forms",
        _form,
        (
            b"name=a&rateLimit=60&tokenLimit=&priority=1&isActive=on&expiresAt=2030-01-31T12:00",
            b"mode=chat&system=s&prompt=it's+%22+%0D%0A&maxTokens=5&temperature=.7&stop=a%0Ab",
            b"range=30d&from=2026-01-01&to=2026-02-01&zone=Europe/Berlin&next=/jobs%3Fa=b",
        ),
        (
            *(b"name=", b"expiresAtInstant=", b"maxTokens=", b"topP=", b"seed=", b"mode=raw", b"&"),
            *(b"from=", b"to=", b"zone=", b"next=", b"%00", b"%ED%A0%80", b"nan", b"1e400", b"%5C"),
            *(b"prompt=", b"system=", b"stop=", b"%27", b"%22", b"%E2%80%A8", b"9" * 400),
        ),
    ),
    Target(
        "stops",
        _stops,
        (b"###\n```\naa\nab\n\n\n\n\nsome text ## and ### more", b"a" * 40 + b"\n" * 8 + b"a" * 99),
        (b"\n", b"aaaaaaaa"),
    ),
    Target(
        "cells",
        _cells,
        (b"=1+1\n-2\n plain\n@x", b'"=a\n\t=b\n\r\n'),
        (b"=", b"+", b"-", b"@", b"\t", b"\r", b'"', b",", b" "),
    ),
)
