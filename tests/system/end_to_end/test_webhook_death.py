"""A webhook survives the death of the worker that sends it."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import redis

from core.config.settings import Settings
from models.database.base import SessionFactory
from tests.support.http.webhooks import WEBHOOK_TIMEOUT, submit_with_webhook, webhook_of
from tests.support.polling import wait_until
from tests.support.service import Service
from tests.support.webhook_receiver import receiving


def test_a_worker_that_is_killed_while_it_sends_a_webhook_loses_none(
    base_settings: Settings, redis_client: redis.Redis, database: SessionFactory, tmp_path: Path
) -> None:
    released = threading.Event()

    def respond(number: int) -> tuple[int, dict[str, str]]:
        if number == 0:
            released.wait(60)
        return 200, {}

    changes = {
        "webhook_allowed_networks": "127.0.0.0/8",
        "webhook_timeout_seconds": WEBHOOK_TIMEOUT,
    }
    with (
        receiving(respond) as receiver,
        Service.started(base_settings, tmp_path, **changes) as service,
    ):
        headers = {"x-api-key": service.make_key()["secret"]}
        job_id = submit_with_webhook(service, headers, receiver.url)
        wait_until(lambda: receiver.received, 20, service.logs)
        service.end_worker(service.workers[0], signal.SIGKILL)
        service.add_worker()

        wait_until(lambda: len(receiver.received) == 2, 60, service.logs)
        released.set()
        wait_until(lambda: webhook_of(service, headers, job_id)["state"] == "delivered", 20)

    assert len(set(receiver.ids)) == 1
    assert receiver.received[1].at - receiver.received[0].at > WEBHOOK_TIMEOUT
