"""What tests of batches of OpenAI's API share: how to submit one, and the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI
from openai.types import Batch

from models.database.base import SessionFactory
from tests.support.http.batch_files import jsonl
from tests.support.http.openai_batches import CHAT, Submit
from tests.support.service import Service


@pytest.fixture
def submit(openai: OpenAI) -> Submit:
    def submit(*lines: Any, endpoint: Any = CHAT, **options: Any) -> Batch:
        file = openai.files.create(file=("in.jsonl", jsonl(*lines)), purpose="batch")
        return openai.batches.create(
            input_file_id=file.id, endpoint=endpoint, completion_window="24h", **options
        )

    return submit


@pytest.fixture
def rows(service: Service) -> Iterator[SessionFactory]:
    yield service.sessions
