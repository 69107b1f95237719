"""Fixtures of the runner's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from core.prompts.tokenizer import PromptTokenizer
from models.database.base import SessionFactory
from tests.support.worker.runner_harness import Harness, start_harness


@pytest.fixture
def harness(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Harness]:
    harness = start_harness(database, redis_client, tokenizer)
    yield harness
    harness.stop()


@pytest.fixture
def slow_harness(
    database: SessionFactory, redis_client: redis.Redis, tokenizer: PromptTokenizer
) -> Iterator[Harness]:
    harness = start_harness(database, redis_client, tokenizer, tokens_per_second=5)
    yield harness
    harness.stop()
