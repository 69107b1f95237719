"""Many requests at the same moment: all connections stand before the first byte is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any
from urllib.parse import urlsplit

BURST_SECONDS = 40.0
#: Connections opened at once: a listener's backlog is not what is tested here.
OPENING = 100


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        return self.body["error"]["code"] if self.status >= 400 else None


def burst(
    urls: Sequence[str], body: dict[str, Any], headers: dict[str, str], *, count: int
) -> list[Answer]:
    """POST `body` this often, to each of the addresses in turn."""
    targets = list(islice(cycle(urls), count))

    async def run() -> list[Answer]:
        async with asyncio.timeout(BURST_SECONDS):
            return await _burst(targets, body, headers)

    return asyncio.run(run())


async def _burst(targets: list[str], body: dict[str, Any], headers: dict[str, str]) -> list[Answer]:
    gate = asyncio.Semaphore(OPENING)

    async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(url)
        async with gate:
            return await asyncio.open_connection(parts.hostname, parts.port)

    streams = await asyncio.gather(*map(connect, targets))
    for url, (_, writer) in zip(targets, streams, strict=True):
        writer.write(_request(url, body, headers))
    answers = await asyncio.gather(*(reader.read() for reader, _ in streams))
    for _, writer in streams:
        writer.close()
    return [_parse(answer) for answer in answers]


def _request(url: str, body: dict[str, Any], headers: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    data = json.dumps(body).encode()
    sent = {
        "Host": parts.netloc,
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": str(len(data)),
        **headers,
    }
    lines = [f"POST {parts.path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
    return "\r\n".join([*lines, "", ""]).encode() + data


def _parse(answer: bytes) -> Answer:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return Answer(int(status.split()[1]), headers, json.loads(body))
