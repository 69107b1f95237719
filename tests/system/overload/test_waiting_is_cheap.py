"""1,000 waits and 500 streams at once are cheap; `tests.bench.waiting` prints the figures."""

from __future__ import annotations

import pytest
import redis

from core.config.settings import Settings
from core.redis.client import MAX_CONNECTIONS
from tests.support.http.waiting_clients import hold
from tests.support.polling import wait_until
from tests.support.service import Service


def test_many_waiting_clients_cost_little_memory_and_few_connections(
    base_settings: Settings, tmp_path_factory: pytest.TempPathFactory, redis_client: redis.Redis
) -> None:
    with Service.started(
        base_settings, tmp_path_factory.mktemp("waiting"), echo_tokens_per_second=0.2
    ) as service:
        secret = service.make_key(rateLimit=1_000_000)["secret"]

        held = hold(service, secret, waits=1000, streams=500, calls=50)

        assert len(held.memory_mib) == service.settings.api_processes == 2
        assert max(held.memory_mib) < 400
        pool = service.settings.database_pool_size
        processes = service.settings.api_processes
        assert held.database_connections <= processes * (pool + pool // 2) + 2 * pool
        # Each API process has a pool and a subscription, the worker two, and the test its own.
        assert held.redis_connections <= (processes + 1) * (MAX_CONNECTIONS + 2) + 5
        admin = service.sign_in_admin()

        def running() -> int:
            models = service.call("GET", "/api/llm/models", headers=admin).json()
            return int(models["data"][0]["running"])

        wait_until(lambda: running() == 0, 30)  # the clients have disconnected: all jobs must end
