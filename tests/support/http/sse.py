"""A small reader of server-sent events, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import requests


@dataclass(frozen=True)
class Event:
    id: str
    data: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.data))


def events(response: requests.Response) -> Iterator[Event]:
    """Yield the events of a response as they arrive."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    response.encoding = "utf-8"
    event_id, data = "", []
    for line in response.iter_lines(chunk_size=1, decode_unicode=True):
        if line.startswith("id: "):
            event_id = line[4:]
        elif line.startswith("data: "):
            data.append(line[6:])
        elif not line and data:
            yield Event(event_id, "\n".join(data))
            data = []


def text_of(received: list[Event], index: int = 0) -> str:
    """Return the concatenated text of one choice."""
    return "".join(
        choice["text"]
        for event in received
        if event.data != "[DONE]"
        for choice in event.json.get("choices", ())
        if choice["index"] == index
    )
