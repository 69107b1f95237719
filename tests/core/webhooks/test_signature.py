from __future__ import annotations

import base64
import json
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from core.config.settings import Settings
from core.ids import new_id
from core.webhooks.signature import WebhookSecret

BODY = json.dumps({"type": "job.succeeded", "data": {"text": "grün"}}, ensure_ascii=False).encode()


@pytest.fixture
def settings() -> Settings:
    return made_settings("s" * 40)


def made_settings(secret_key: str) -> Settings:
    return Settings.from_environment(
        {
            "DATABASE_URL": "postgresql://u:p@127.0.0.1:5/x",
            "REDIS_URL": "redis://127.0.0.1:6/0",
            "SECRET_KEY": secret_key,
        }
    )


def test_the_official_library_verifies_our_signature(settings: Settings) -> None:
    secret = WebhookSecret.of_key(settings, new_id())

    headers = secret.headers("msg_1", int(time.time()), BODY)

    assert Webhook(secret.text).verify(BODY, headers) == json.loads(BODY)


@pytest.mark.parametrize("changed", ["body", "webhook-id", "webhook-timestamp", "key"])
def test_a_changed_message_is_refused(settings: Settings, changed: str) -> None:
    secret = WebhookSecret.of_key(settings, new_id())
    now = int(time.time())
    headers = secret.headers("msg_1", now, BODY)
    body = BODY
    if changed == "body":
        body = BODY.replace(b"gr", b"br")
    elif changed == "key":
        secret = WebhookSecret.of_key(settings, new_id())
    else:
        headers[changed] = {"webhook-id": "msg_2", "webhook-timestamp": str(now - 1)}[changed]

    with pytest.raises(WebhookVerificationError):
        Webhook(secret.text).verify(body, headers)


def test_a_secret_belongs_to_one_key_of_one_service(settings: Settings) -> None:
    key_id = new_id()
    secret = WebhookSecret.of_key(settings, key_id)

    assert secret == WebhookSecret.of_key(settings, key_id)
    assert secret != WebhookSecret.of_key(settings, new_id())
    assert secret != WebhookSecret.of_key(made_settings("t" * 40), key_id)
    assert len(base64.b64decode(secret.text.removeprefix("whsec_"))) == 32
    assert secret.text not in repr(secret)
