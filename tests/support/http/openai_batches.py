"""Batches of OpenAI's API by the official client: their lines, ends and results."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from openai import OpenAI
from openai.types import Batch

from tests.support.polling import wait_until

BATCH_SECONDS = 60.0
CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
#: Creates a file and a batch from it.
Submit = Callable[..., Batch]


def chat(name: str, text: str = "say this", **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    given = {"messages": messages, "max_tokens": 8, **body}
    return {"custom_id": name, "method": "POST", "url": CHAT, "body": given}


def completion(name: str, prompt: str = "one two", **body: Any) -> dict[str, Any]:
    given = {"prompt": prompt, **body}
    return {"custom_id": name, "method": "POST", "url": COMPLETIONS, "body": given}


def finished(client: OpenAI, batch: Batch) -> Batch:
    """Wait for the end of the batch and return it."""
    ends = {"completed", "cancelled", "expired", "failed"}
    wait_until(lambda: client.batches.retrieve(batch.id).status in ends, BATCH_SECONDS)
    return client.batches.retrieve(batch.id)


def lines_of(client: OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    assert file_id is not None
    return [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
