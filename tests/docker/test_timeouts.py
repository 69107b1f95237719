"""Proxies and code samples wait longer than a synchronous request does."""

from __future__ import annotations

import re

import pytest

from core.config.settings import Settings
from tests.support.paths import ROOT

SYNC_WAIT = Settings.model_fields["sync_wait_seconds"]
#: The time-out of OpenAI's clients.
CLIENTS_SECONDS = 600.0


def test_a_request_waits_as_long_as_openais_clients() -> None:
    assert SYNC_WAIT.default == CLIENTS_SECONDS


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        ("docker/nginx/snippets/proxy.conf.template", r"proxy_read_timeout (\d+)s;"),
        (
            "docker/kubernetes/overlays/production/kustomization.yaml",
            r'nginx.ingress.kubernetes.io/proxy-read-timeout: "(\d+)"',
        ),
        ("admin_ui/widgets/code_samples.py", r"timeout=(\d+),"),
    ],
)
def test_proxies_and_samples_wait_longer(file: str, pattern: str) -> None:
    (seconds,) = re.findall(pattern, (ROOT / file).read_text())

    longest = max(limit.le for limit in SYNC_WAIT.metadata if hasattr(limit, "le"))
    assert float(seconds) > longest >= SYNC_WAIT.default
