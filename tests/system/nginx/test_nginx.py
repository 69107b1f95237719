"""NGINX with our configuration, in front of two processes of the API."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from tests.support.docker.name_server import NameServer
from tests.support.docker.nginx import Nginx, certificate, variables, write
from tests.support.docker.proxy import ADMIN, API, HTTP, Proxy, TlsProxy, kill
from tests.support.docker.tools import run
from tests.support.http.batch_files import JSONL, jsonl, requests_of
from tests.support.http.sse import events
from tests.support.http.steady_load import CALLERS, CUT, Load
from tests.support.polling import wait_until
from tests.support.processes import responds
from tests.support.service import PACE

#: How long the load lasts before the kill, and after it: a load has a time, no fact to wait for.
BEFORE_SECONDS, AFTER_SECONDS = 1.0, 2.0


def test_a_stream_arrives_token_by_token(proxy: Proxy, headers: dict[str, str]) -> None:
    body = {"prompt": "one two three four five six seven", "maxTokens": 40, "stream": True}

    response = proxy.service.call(
        "POST", "/api/llm/generate", json=body, headers=headers, stream=True
    )
    times = [time.monotonic() for event in events(response) if "choices" in event.data]

    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) >= 10
    # A proxy that buffers would pass several events at once.
    assert times[-1] - times[0] > 0.7 * (len(times) - 1) / PACE
    assert sorted(gaps)[len(gaps) // 2] > 0.5 / PACE


def test_only_a_batch_file_may_be_large(proxy: Proxy, headers: dict[str, str]) -> None:
    file = jsonl(*({**line, "prompt": "x" * 3000} for line in requests_of(1000)))
    assert len(file) > proxy.service.settings.max_body_bytes

    sent = proxy.service.call("POST", "/api/llm/batches", data=file, headers={**headers, **JSONL})
    refused = requests.post(
        f"{proxy.service.url}/api/llm/jobs",
        data=file,
        headers={**headers, "Content-Type": "application/json", "Expect": "100-continue"},
        timeout=30,
    )

    assert sent.status_code in {200, 201, 202}, sent.text
    assert sent.json()["total"] == 1000, sent.text
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")
    cancelled = proxy.service.call(
        "POST", f"/api/llm/batches/{sent.json()['id']}/cancel", headers=headers
    )
    assert cancelled.ok


def test_nginx_streams_an_upload_to_the_api(proxy: Proxy) -> None:
    """The API rejects a request without a key before its file has arrived.

    If NGINX buffered the file, the API would not have the request yet.
    """
    with socket.create_connection(("127.0.0.1", proxy.nginx.ports[API]), timeout=10) as connection:
        connection.sendall(
            b"POST /api/llm/batches HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/jsonl\r\nContent-Length: 100000000\r\n\r\n{"
        )
        head = connection.recv(1024)

    assert head.startswith(b"HTTP/1.1 401 ")


def test_an_api_killed_under_load_loses_only_its_own_requests(
    proxy: Proxy, headers: dict[str, str]
) -> None:
    load = Load(proxy.service.url, headers)
    address, victim = next(iter(proxy.apis.items()))

    with load.running():
        time.sleep(BEFORE_SECONDS)
        began = time.monotonic()
        kill(victim)
        ended = time.monotonic()
        time.sleep(AFTER_SECONDS)

    lost = [call for call in load.calls if call.status not in {200, 202}]
    afterwards = [call for call in load.calls if call.began > ended]
    assert {call.method for call in afterwards} == {"GET", "POST"}
    assert len(afterwards) > 20
    wait_until(lambda: proxy.passed_to(address) in proxy.nginx.access_log(), 20)
    # NGINX repeats a GET at the other API unless its response had begun. It repeats no POST: the
    # killed API may have begun it.
    assert [call for call in lost if call.method == "GET" and call.code != CUT] == []
    assert [call for call in lost if not (call.began < ended and call.ended > began)] == []
    assert {(call.status, call.code) for call in lost} <= {(503, "api_unavailable"), (0, CUT)}
    assert len(lost) <= CALLERS


def test_a_restarted_api_receives_requests(proxy: Proxy, headers: dict[str, str]) -> None:
    address = next(iter(proxy.apis))
    proxy.start(address)
    seen = len(proxy.nginx.access_log())

    def is_back() -> bool:
        assert proxy.service.call("GET", "/healthz").status_code == 200
        return proxy.passed_to(address) in proxy.nginx.access_log()[seen:]

    wait_until(is_back, 15)


def test_nginx_finds_new_addresses_of_a_name(proxy: Proxy, tmp_path: Path) -> None:
    first, second = proxy.apis
    with NameServer.started(first) as name_server:
        given = variables(
            proxy.service.settings,
            NGINX_RESOLVER=name_server.resolver,
            API_SERVERS=f"server api:{proxy.port} resolve max_fails=1 fail_timeout=5s;",
        )
        with Nginx.started(tmp_path / "nginx", "plain", given) as nginx:
            address = f"{nginx.url(API)}/healthz"
            wait_until(lambda: responds(address), 15, nginx.log)
            assert responds(address)
            assert proxy.passed_to(second) not in nginx.access_log()

            name_server.addresses.append(second)

            wait_until(
                lambda: responds(address) and proxy.passed_to(second) in nginx.access_log(), 15
            )
            wait_until(lambda: proxy.passed_to(first) in nginx.access_log(), 20)


def test_the_audited_address_is_that_of_the_connection(proxy: Proxy) -> None:
    admin = proxy.service.sign_in_admin()
    spoofed = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9"}
    made = proxy.service.call(
        "POST", "/api/keys", json={"name": "spoofed"}, headers={**admin, **spoofed}
    )

    entries = proxy.service.call("GET", "/api/admin/activity", headers=admin).json()["data"]

    entry = next(entry for entry in entries if made.json()["id"] in json.dumps(entry))
    assert entry["address"] == "127.0.0.1"


def _logged(proxy: Proxy) -> list[dict[str, Any]]:
    """Return the lines of the log; NGINX writes a line after the response."""
    whole = proxy.nginx.access_log().rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]


def _logged_ids(proxy: Proxy) -> set[str]:
    return {line["request_id"] for line in _logged(proxy)}


def test_a_request_has_one_id(proxy: Proxy) -> None:
    valid = proxy.service.call("GET", "/healthz", headers={"X-Request-Id": "mine.1"})
    invalid = proxy.service.call("GET", "/healthz", headers={"X-Request-Id": "mine 1"})

    assert valid.headers["x-request-id"] == "mine.1"
    assert re.fullmatch("req_[0-9a-f]{32}", invalid.headers["x-request-id"])
    wait_until(lambda: {"mine.1", invalid.headers["x-request-id"]} <= _logged_ids(proxy), 20)


def test_the_log_has_no_secret(proxy: Proxy, headers: dict[str, str], secret: str) -> None:
    with_cookie = {**headers, "Cookie": "session=s3cret"}
    response = proxy.service.call("GET", "/api/llm/jobs?limit=3", headers=with_cookie)
    request_id = response.headers["x-request-id"]
    wait_until(lambda: request_id in _logged_ids(proxy), 20)

    logs = proxy.nginx.access_log() + proxy.nginx.log()

    [line] = [line for line in _logged(proxy) if line["request_id"] == request_id]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/llm/jobs", 200)
    assert [word for word in (secret, "s3cret", "Bearer", "limit=3") if word in logs] == []


@pytest.mark.parametrize("port", [API, ADMIN])
def test_metrics_are_not_proxied(proxy: Proxy, port: str) -> None:
    response = requests.get(f"{proxy.nginx.url(port)}/metrics", timeout=10)

    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_the_admin_ui_has_its_own_port(proxy: Proxy) -> None:
    page = requests.get(f"{proxy.nginx.url(ADMIN)}/sign-in", timeout=10)
    at_the_api = requests.get(f"{proxy.nginx.url(API)}/sign-in", timeout=10)

    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert at_the_api.status_code == 404


def test_without_an_api_the_error_has_the_shape_of_all_errors(proxy: Proxy, tmp_path: Path) -> None:
    with Nginx.started(tmp_path / "nginx", "plain", variables(proxy.service.settings)) as alone:
        response = requests.get(f"{alone.url(API)}/healthz", timeout=10)

    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (503, "api_unavailable")
    assert set(error) == {"code", "type", "message", "param", "requestId"}
    assert error["requestId"] == response.headers["x-request-id"]
    assert response.headers["retry-after"] == "1"
    assert "nginx/" not in response.headers["server"]


def test_one_address_cannot_take_every_connection(
    proxy: Proxy, headers: dict[str, str], tmp_path: Path
) -> None:
    given = variables(
        proxy.service.settings, API_SERVERS=proxy.servers, CONNECTIONS_PER_ADDRESS="2"
    )
    body = {"prompt": "one two three four five", "maxTokens": 200, "stream": True}
    with Nginx.started(tmp_path / "nginx", "plain", given) as narrow:
        address = f"{narrow.url(API)}/api/llm/generate"
        held = [
            requests.post(address, json=body, headers=headers, stream=True, timeout=30)
            for _ in range(2)
        ]
        refused = requests.get(f"{narrow.url(API)}/healthz", timeout=10)
        for response in held:
            response.close()

    assert [response.status_code for response in held] == [200, 200]
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_connections")


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_http_2_is_negotiated(tls_proxy: TlsProxy, protocol: str) -> None:
    with tls_proxy.connect("api.example.com", protocol) as connection:
        assert connection.selected_alpn_protocol() == protocol
        assert connection.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize(
    ("name", "path", "kind"),
    [
        ("api.example.com", "/healthz", b"application/json"),
        ("admin.example.com", "/sign-in", b"text/html"),
    ],
)
def test_each_host_name_has_its_program(
    tls_proxy: TlsProxy, name: str, path: str, kind: bytes
) -> None:
    with tls_proxy.connect(name, "http/1.1") as connection:
        connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode()
        )
        received = b"".join(iter(lambda: connection.recv(65536), b""))

    head = received.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 200 ")
    assert b"content-type: " + kind in head


def test_another_name_gets_no_certificate(tls_proxy: TlsProxy) -> None:
    with pytest.raises(ssl.SSLError):
        tls_proxy.connect("other.example.com", "h2").close()


def test_http_redirects_to_https_with_the_same_method(tls_proxy: TlsProxy) -> None:
    response = requests.post(
        f"{tls_proxy.nginx.url(HTTP)}/api/llm/generate?a=1",
        headers={"Host": "api.example.com"},
        allow_redirects=False,
        timeout=10,
    )

    assert response.status_code == 308
    assert response.headers["location"] == "https://api.example.com/api/llm/generate?a=1"


@pytest.mark.parametrize("variant", ["plain", "tls"])
def test_gixy_finds_nothing(proxy: Proxy, tmp_path: Path, variant: str) -> None:
    given = variables(proxy.service.settings, **certificate(trustme.CA(), tmp_path))
    write(tmp_path, variant, given)

    done = run("gixy", tmp_path / "nginx.conf")

    assert done.returncode == 0, done.stdout
    assert (
        "Total issues:\n    Informational: 0\n    Low: 0\n    Medium: 0\n    High: 0" in done.stdout
    )
