"""Many requests at the same moment: all connections are open before the first byte is sent."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any
from urllib.parse import urlsplit

BURST_SECONDS = 40.0
#: Connections opened at once: fewer than the listening socket's backlog.
OPENING = 100


@dataclass(frozen=True, slots=True)
class BurstResponse:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        return self.body["error"]["code"] if self.status >= 400 else None


def burst(
    urls: Sequence[str], body: dict[str, Any], headers: dict[str, str], *, count: int
) -> list[BurstResponse]:
    """POST `body` `count` times, to each of the URLs in turn."""
    targets = list(islice(cycle(urls), count))

    async def run() -> list[BurstResponse]:
        async with asyncio.timeout(BURST_SECONDS):
            return await _burst(targets, body, headers)

    return asyncio.run(run())


async def _burst(
    targets: list[str], body: dict[str, Any], headers: dict[str, str]
) -> list[BurstResponse]:
    gate = asyncio.Semaphore(OPENING)

    async def connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(url)
        async with gate:
            return await asyncio.open_connection(parts.hostname, parts.port)

    streams = await asyncio.gather(*map(connect, targets))
    for url, (_, writer) in zip(targets, streams, strict=True):
        writer.write(_request(url, body, headers))
    responses = await asyncio.gather(*(reader.read() for reader, _ in streams))
    for _, writer in streams:
        writer.close()
    return [_parse(response) for response in responses]


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


def _parse(response: bytes) -> BurstResponse:
    head, _, body = response.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return BurstResponse(int(status.split()[1]), headers, json.loads(body))
