"""Labels and sentences for the names and errors of the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from admin_ui.wording import (
    LABELS,
    TEXTS,
    error_text,
    field_error_text,
    job_error_text,
    label_of,
    sentence,
)
from api.batches.options import BatchForm, RetryOptions
from api.openapi import refusals
from api.openapi.refusals import Refusal
from api.views.auth import ChangePasswordBody
from api.views.keys import CreateKeyBody, RotateKeyBody, UpdateKeyBody
from api.views.users import CreateUserBody, UpdateUserBody
from core.errors import ApiError
from core.generation import Body, Generation

#: The bodies that the forms of the pages send.
FORM_BODIES: tuple[type[Body], ...] = (
    CreateUserBody,
    UpdateUserBody,
    ChangePasswordBody,
    CreateKeyBody,
    UpdateKeyBody,
    RotateKeyBody,
    BatchForm,
    RetryOptions,
    Generation,
)


@pytest.mark.parametrize("body", FORM_BODIES)
def test_every_field_that_a_form_sends_has_a_label(body: type[Body]) -> None:
    names = [field.alias or name for name, field in body.model_fields.items()]

    assert [name for name in names if name not in LABELS] == []


def test_every_code_of_the_api_has_a_sentence() -> None:
    assert [code for code in sorted(set(codes())) if code not in TEXTS] == []


def codes() -> Iterator[str]:
    """Yield the codes that calls document, and those of our errors."""
    for value in vars(refusals).values():
        for refusal in value if isinstance(value, tuple) else (value,):
            if isinstance(refusal, Refusal):
                yield from refusal.codes
    kinds: list[type[ApiError]] = [ApiError]
    for kind in kinds:
        kinds += kind.__subclasses__()
        yield kind.code


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("rateLimit must be at least 1", "Requests per minute must be at least 1."),
        ("name must not be empty", "Name must not be empty."),
        ("stop.3 must not be empty", "Stop strings must not be empty."),
        ("messages.0.content must be a string", "System message must be a string."),
        ("the file has no lines", "The file has no lines."),
        ("the prompt and maxTokens are too long", "The prompt and Max tokens are too long."),
        ("tokenLimit: must be a number", "Tokens per minute: must be a number."),
        ("Try again.", "Try again."),
        ("", ""),
    ],
)
def test_a_message_of_the_api_becomes_a_sentence(message: str, expected: str) -> None:
    assert sentence(message) == expected


def test_a_code_may_have_its_own_sentence() -> None:
    assert error_text("email_taken", "there is a user with this email") == TEXTS["email_taken"]
    assert error_text("last_admin", "the last admin cannot be deleted") == (
        "The last admin cannot be deleted."
    )
    assert error_text("a code of a newer API", "this is new") == "This is new."


def test_a_line_of_a_file_keeps_its_api_names() -> None:
    message = "line 2: maxTokens must be at least 1"

    assert field_error_text("line 2", message) == "Line 2: maxTokens must be at least 1."
    assert job_error_text({"code": "invalid_request", "message": "prompt or maxTokens"}) == (
        "Prompt or maxTokens."
    )
    assert label_of("no known field") == "no known field"
