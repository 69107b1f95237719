from __future__ import annotations

from ipaddress import ip_address

import pytest

from core.config.settings import AppEnv
from core.errors import InvalidRequest
from core.webhooks.target import (
    PrivateAddress,
    TargetRefused,
    WebhookTarget,
    allowed_addresses,
    check_webhook_url,
    is_allowed,
    read_target,
)
from tests.support.factories.settings import made_settings

PUBLIC = "93.184.215.14"
PUBLIC_V6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"

CLOSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "5f00::1",
]
OPEN = [
    PUBLIC,
    PUBLIC_V6,
    "1.1.1.1",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.3.0",
    "223.255.255.255",
    "2001:200::1",
    "2a00:1450:4001::200e",
]


DEVELOPMENT = made_settings()
PRODUCTION = made_settings(app_env=AppEnv.PRODUCTION)


def target(url: str) -> WebhookTarget:
    return read_target(url, DEVELOPMENT)


@pytest.mark.parametrize("text", CLOSED)
def test_an_address_that_is_not_public_is_closed(text: str) -> None:
    assert not is_allowed(ip_address(text), ())


@pytest.mark.parametrize("text", OPEN)
def test_a_public_address_is_open(text: str) -> None:
    assert is_allowed(ip_address(text), ())


@pytest.mark.parametrize("text", CLOSED)
def test_a_url_with_a_closed_address_is_refused_at_the_edge(text: str) -> None:
    host = f"[{text}]" if ":" in text else text

    with pytest.raises(InvalidRequest, match="not allowed") as refusal:
        check_webhook_url(f"https://{host}:8443/hook", PRODUCTION)
    assert refusal.value.param == "webhookUrl"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST",
        "localhost.",
        "a.localhost",
        "127.0.0.1.",
        "2130706433",  # 127.0.0.1 in decimal
        "0x7f000001",
        "0X7F.1",
        "0177.0.0.1",
        "017700000001",
        "127.1",
        "127.0.1",
        "0x7f.0x0.0x0.0x1",
        "0",
        "256.256.256.256",
        "1.2.3.4.5",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.x]",
        "[127.0.0.1]",
    ],
)
def test_loopback_is_refused_in_every_notation(host: str) -> None:
    with pytest.raises(TargetRefused):
        target(f"http://{host}/")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "//example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "https:///hook",
        "https://:443/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://127.0.0.1:80@example.com/",
        "https://example.com\\@127.0.0.1/",
        "https://example.com:x/",
        "https://example.com:70000/",
        "https://example.com:-1/",
        "https://example.com:0/",
        "https://example.com:22/",
        "https://example.com:25/",
        "https://exa mple.com/",
        "https://example.com/\r\nHost: 127.0.0.1",
        "https://example.com/\x00",
        "https://bücher.example/",
        "https://example.com/ü",
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://127.0.0.1%2f/",
        "https://exam..ple.com/",
        "https://-example.com/",
        "https://" + "a" * 64 + ".com/",
        "https://" + "a." * 130 + "com/",
    ],
)
def test_a_malformed_webhook_url_is_refused(url: str) -> None:
    with pytest.raises(TargetRefused):
        target(url)


def test_a_url_is_parsed() -> None:
    assert target("HTTPS://Example.COM:8443/a%20b?c=d#e") == WebhookTarget(
        "https", "example.com", 8443, "/a%20b?c=d"
    )
    assert target("http://example.com") == WebhookTarget("http", "example.com", 80, "/")
    assert target("https://example.com.:443?x").path == "/?x"


@pytest.mark.parametrize(
    ("url", "header"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:443/", "example.com"),
        ("http://example.com:443/", "example.com:443"),
        (f"https://[{PUBLIC_V6}]:8443/", f"[{PUBLIC_V6}]:8443"),
    ],
)
def test_the_host_header_is_as_clients_write_it(url: str, header: str) -> None:
    assert target(url).host_header == header


def test_production_accepts_only_https() -> None:
    assert check_webhook_url("https://example.com/", PRODUCTION).is_tls
    assert not check_webhook_url("http://example.com/", DEVELOPMENT).is_tls

    with pytest.raises(InvalidRequest, match="must begin with https://"):
        check_webhook_url("http://example.com/", PRODUCTION)


@pytest.mark.parametrize(
    "found",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], [PUBLIC_V6, "::1"], ["169.254.169.254", PUBLIC]],
    ids=str,
)
def test_a_name_with_any_closed_address_is_refused(found: list[str]) -> None:
    with pytest.raises(PrivateAddress) as caught:
        allowed_addresses(target("https://example.com/"), DEVELOPMENT, lambda host, port: found)
    assert not any(address in str(caught.value) for address in found)


def test_a_name_with_public_addresses_gives_all_of_them() -> None:
    resolved = []

    def resolve(host: str, port: int) -> list[str]:
        resolved.append((host, port))
        return [PUBLIC, PUBLIC_V6, PUBLIC]

    found = allowed_addresses(target("https://example.com:8443/"), DEVELOPMENT, resolve)

    assert [str(address) for address in found] == [PUBLIC, PUBLIC_V6]
    assert resolved == [("example.com", 8443)]


def test_the_call_checks_an_address_too() -> None:
    inside = made_settings(webhook_allowed_networks="10.0.0.0/8")
    private = read_target("https://10.1.2.3/", inside)

    assert allowed_addresses(private, inside, lambda *_: []) == [ip_address("10.1.2.3")]
    with pytest.raises(TargetRefused):
        allowed_addresses(private, DEVELOPMENT, lambda *_: [])


def test_networks_that_settings_name_are_open_and_no_others() -> None:
    settings = made_settings(webhook_allowed_networks="127.0.0.0/8, fd00:1::/64")

    assert read_target("http://localhost:8000/", settings)
    assert read_target("https://127.0.0.1/", settings)
    assert read_target("https://[fd00:1::5]/", settings)
    for host in ("10.0.0.1", "[fd00:2::5]", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
        with pytest.raises(TargetRefused):
            read_target(f"https://{host}/", settings)
