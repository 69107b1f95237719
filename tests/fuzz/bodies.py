"""JSON bodies of requests: each kind through the API's reader of bodies, with its model."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from api.batches.options import RetryOptions
from api.generation.validation import check_generation
from api.http.body import read_body
from api.services import services
from api.v1.batches.views import BatchBody
from api.v1.generation.body import GenerationBody
from api.v1.generation.chat_body import ChatBody
from api.v1.generation.completion_body import CompletionBody
from api.v1.generation.views import default_temperature
from api.views.auth import ChangePasswordBody, LoginBody, RefreshBody, RegisterBody
from api.views.keys import CreateKeyBody, RotateKeyBody, UpdateKeyBody
from api.views.users import CreateUserBody, UpdateUserBody
from core.generation import Body, Generation
from tests.fuzz.programs import api_app, requested
from tests.fuzz.target import Target, refusals_are_fine

#: Longest prompt that is encoded here. The admission bounds the cost of longer ones.
MOST_COUNTED = 4096

SMALL_KINDS: tuple[type[Body], ...] = (
    RegisterBody,
    LoginBody,
    RefreshBody,
    ChangePasswordBody,
    CreateUserBody,
    UpdateUserBody,
    CreateKeyBody,
    UpdateKeyBody,
    RotateKeyBody,
    RetryOptions,
    BatchBody,
)


def accept(generation: Generation) -> None:
    """Process a generation as a call does before it uses the database."""
    check_generation(services().settings, generation)
    row = json.loads(json.dumps(generation.to_row()))
    assert Generation.from_row(row).to_row() == row
    text = services().prompts.tokenizer.text_of(generation)
    text.text.encode()
    if len(text.text) <= MOST_COUNTED:
        services().prompts.tokenizer.encode(generation)


def _read(kind: type[Body], data: bytes) -> None:
    with _posted(data), refusals_are_fine():
        body = read_body(kind)
        if isinstance(body, Generation):
            accept(body)
        if isinstance(body, GenerationBody):
            temperature = default_temperature(services())
            most = services().settings.max_tokens_limit
            accept(body.to_generation(most_tokens=most, temperature=temperature))


def _read_small(data: bytes) -> None:
    kind = SMALL_KINDS[data[0] % len(SMALL_KINDS)] if data else SMALL_KINDS[0]
    with _posted(data[1:]), refusals_are_fine():
        read_body(kind)


def _posted(data: bytes) -> requested:
    return requested(api_app(), method="POST", body=data, content_type="application/json")


def _words(*kinds: type[Body]) -> list[bytes]:
    """Return the names of fields as JSON has them, and odd values."""
    names = {
        alias or name
        for kind in kinds
        for name, field in kind.model_fields.items()
        for alias in (name, field.alias)
    }
    odd = ("null", "true", "-1", "0", "1e400", "NaN", "Infinity", "1" * 400, "2.5", "[]", "{}")
    texts = ('""', '"\\u0000"', '"\\ud800"', '"\\ud83d\\ude00"', "[[[[", "{{", "{%", "\\")
    return [f'"{name}":'.encode() for name in sorted(names)] + [w.encode() for w in odd + texts]


def _json(**body: object) -> bytes:
    return json.dumps(body).encode()


_CHAT = [{"role": "system", "content": "a"}, {"role": "user", "content": "b", "name": "c"}]
_URL = "https://example.com:8443/hook?a=b"
_run: Callable[[type[Body]], Callable[[bytes], None]] = lambda kind: partial(_read, kind)  # noqa: E731

TARGETS = (
    Target(
        "generation",
        _run(Generation),
        (
            _json(prompt="Write a function", maxTokens=5, stop=["###"], seed=2**63 - 1, topK=4),
            _json(messages=_CHAT, metadata={"a": "b"}, webhookUrl=_URL, ttlSeconds=60, n=2),
            _json(prompt="x", promptMode="raw", logprobs=20, temperature=0.1, min_tokens=1),
        ),
        _words(Generation),
    ),
    Target(
        "chat",
        _run(ChatBody),
        (
            _json(messages=_CHAT, max_completion_tokens=3, logprobs=True, top_logprobs=2, n=1),
            _json(
                messages=[{"role": "developer", "content": [{"type": "text", "text": "x"}]}],
                stream=True,
                stream_options={"include_usage": True},
                response_format={"type": "text"},
                tools=[],
            ),
        ),
        _words(ChatBody),
    ),
    Target(
        "completion",
        _run(CompletionBody),
        (_json(prompt=["x"], max_tokens=1, best_of=1, echo=False, stop="a", seed=-1, top_k=-1),),
        _words(CompletionBody),
    ),
    Target(
        "accounts",
        _read_small,
        (
            b"\0" + _json(email="a@b.example", password="a password", name="n"),
            b"\6" + _json(name="k", expiresAt="2030-01-31T12:00:00+02:00", rateLimit=5, userId="u"),
            b"\7" + _json(isActive=False, tokenLimit=None, priority=10, monthlyTokenLimit=10**9),
            b"\11" + _json(completionWindow="90m", metadata='{"a": "b"}', webhookUrl=_URL),
            b"\12"
            + _json(
                input_file_id="file_" + "0" * 32,
                endpoint="/v1/completions",
                completion_window="24h",
            ),
        ),
        _words(*SMALL_KINDS),
    ),
)
