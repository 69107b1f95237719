"""The calls of a load test: their kinds, their sizes, and their keys."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate

WORDS = ("list", "function", "value", "return", "index", "string", "number", "class", "loop", "of")
#: Prompts are made once: joining words takes time, and the text does not matter.
PROMPTS = 500
#: Median and maximum of the words of a prompt and of the tokens of a completion; log-normal.
PROMPT_WORDS, MOST_PROMPT_WORDS = 60, 1000
COMPLETION_TOKENS, MOST_COMPLETION_TOKENS = 16, 80
SPREAD = 0.8
BATCH_LINES = 20


class Kind(StrEnum):
    """A kind of call."""

    GENERATE = "generate"
    STREAM = "stream"
    JOB = "job"
    POLL = "poll"
    LIST = "list"
    USAGE = "usage"
    LIMITS = "limits"
    BATCH = "batch"


#: Shares of a hundred arrivals. The polls of a job are sent beside them.
SHARES: Mapping[Kind, float] = {
    Kind.GENERATE: 50.0,
    Kind.STREAM: 25.0,
    Kind.JOB: 15.0,
    Kind.LIST: 5.0,
    Kind.USAGE: 2.8,
    Kind.LIMITS: 2.0,
    Kind.BATCH: 0.2,
}
_PATHS = {
    Kind.GENERATE: "/api/llm/generate",
    Kind.STREAM: "/api/llm/generate",
    Kind.JOB: "/api/llm/jobs",
    Kind.LIST: "/api/llm/jobs?limit=20",
    Kind.USAGE: "/api/usage",
    Kind.LIMITS: "/api/limits",
    Kind.BATCH: "/api/llm/batches",
}


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller.

    Attributes:
        tokens: of the completion; 0 if the call generates none.
    """

    kind: Kind
    secret: str
    request: bytes
    tokens: int = 0


class Mix:
    """Draws calls. The key of rank n is used in proportion to 1/n (Zipf's law)."""

    def __init__(
        self,
        secrets: Sequence[str],
        *,
        seed: int = 1,
        shares: Mapping[Kind, float] = SHARES,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Take the keys' secrets, the most used first.

        Args:
            headers: headers of every generation.
        """
        self._draw = random.Random(seed)
        self._secrets = secrets
        self._headers = dict(headers or {})
        self._key_weights = list(accumulate(1 / rank for rank in range(1, len(secrets) + 1)))
        self._kinds = list(shares)
        self._kind_weights = list(accumulate(shares.values()))
        self._prompts = [
            " ".join(self._draw.choices(WORDS, k=self._size(PROMPT_WORDS, MOST_PROMPT_WORDS)))
            for _ in range(PROMPTS)
        ]

    def draw(self) -> Call:
        """Return the next call."""
        kind = self._draw.choices(self._kinds, cum_weights=self._kind_weights)[0]
        secret = self._draw.choices(self._secrets, cum_weights=self._key_weights)[0]
        if kind in (Kind.LIST, Kind.USAGE, Kind.LIMITS):
            return Call(kind, secret, encode("GET", _PATHS[kind], secret))
        if kind is Kind.BATCH:
            return self._batch(secret)
        tokens = self._size(COMPLETION_TOKENS, MOST_COMPLETION_TOKENS)
        body = self._generation(tokens)
        if kind is Kind.STREAM:
            body["stream"] = True
        request = encode("POST", _PATHS[kind], secret, json.dumps(body).encode(), self._headers)
        return Call(kind, secret, request, tokens)

    def wait_seconds(self, rate: float) -> float:
        """Return the time until the next of `rate` independent arrivals a second."""
        return self._draw.expovariate(rate)

    def _generation(self, tokens: int) -> dict[str, object]:
        prompt = self._draw.choice(self._prompts)
        return {"prompt": prompt, "maxTokens": tokens, "ignoreEos": True}

    def _batch(self, secret: str) -> Call:
        lines = [
            json.dumps(
                {
                    "custom_id": str(n),
                    **self._generation(self._size(COMPLETION_TOKENS, 2 * COMPLETION_TOKENS)),
                }
            )
            for n in range(BATCH_LINES)
        ]
        body = "\n".join(lines).encode()
        headers = {"Content-Type": "application/jsonl"}
        return Call(Kind.BATCH, secret, encode("POST", _PATHS[Kind.BATCH], secret, body, headers))

    def _size(self, middle: int, most: int) -> int:
        size = self._draw.lognormvariate(math.log(middle), SPREAD)
        return max(1, min(most, round(size)))


def poll_of(path: str, secret: str, tokens: int = 0) -> Call:
    """Return a poll of a job. Its completion must have `tokens` tokens; 0 allows any number."""
    return Call(Kind.POLL, secret, encode("GET", path, secret), tokens)


def encode(
    method: str,
    path: str,
    secret: str,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a request."""
    named = {"Host": "127.0.0.1", "Authorization": f"Bearer {secret}"}
    if body:
        named |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"{name}: {value}" for name, value in {**named, **(headers or {})}.items()]
    head = "\r\n".join([f"{method} {path} HTTP/1.1", *lines])
    return head.encode() + b"\r\n\r\n" + body
