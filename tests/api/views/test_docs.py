"""The page for trying the API: this service serves all of its files."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient

from api.app import create_app
from api.services import Services
from api.views.docs import ASSETS
from core.config.settings import Settings

#: Attributes whose URLs a browser loads by itself.
LOADING = {"src", "href", "srcset", "data", "action", "spec-url", "server-url"}
#: The bound keeps the page usable over a slow connection.
MAX_BYTES = 1_500_000


@pytest.fixture
def api(base_settings: Settings, redis_client: redis.Redis) -> FlaskClient:
    return create_app(Services.from_settings(base_settings)).test_client()


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.found += [value or "" for name, value in attrs if name in LOADING]
        if tag == "script" and "src" not in given:
            self.inline.append(tag)
        self.inline += [name for name in given if name == "style" or name.startswith("on")]


@pytest.fixture
def page(api: FlaskClient) -> _Links:
    links = _Links()
    links.feed(api.get("/api/docs").get_data(as_text=True))
    return links


def test_the_page_and_all_its_files_are_served(api: FlaskClient, page: _Links) -> None:
    loaded = [link for link in page.found if not link.startswith("data:") and link != "/"]

    kinds = {link: api.get(link).content_type for link in loaded}

    assert kinds == {
        "/api/docs/docs.css": "text/css; charset=utf-8",
        "/api/docs/openapi-explorer-2.4.820.min.js": "text/javascript; charset=utf-8",
        "/api/openapi.json": "application/json",
    }


def test_no_address_of_the_page_leads_to_another_host(api: FlaskClient, page: _Links) -> None:
    styles = api.get("/api/docs/docs.css").get_data(as_text=True)

    assert all(link.startswith("data:") or re.match(r"/(?!/)", link) for link in page.found)
    assert page.inline == []
    assert "url(" not in styles and "@import" not in styles


def test_the_policy_of_the_page_allows_only_this_service(api: FlaskClient) -> None:
    policy = api.get("/api/docs").headers["content-security-policy"]

    said = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert said == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_other_responses_keep_the_policy_of_an_api(api: FlaskClient) -> None:
    for path in ("/api/openapi.json", "/api/docs/docs.css", "/healthz"):
        policy = api.get(path).headers["content-security-policy"]
        assert policy == "default-src 'none'; frame-ancestors 'none'"


@pytest.mark.parametrize("name", ["index.html", "x.js", "..%2Findex.html", "%2e%2e/app.py", "%00"])
def test_nothing_else_can_be_read_beside_the_page(api: FlaskClient, name: str) -> None:
    response = api.get(f"/api/docs/{name}")

    assert (response.status_code, response.get_json()["error"]["code"]) == (404, "not_found")


def test_every_file_is_served_named_in_the_notice_and_small_enough() -> None:
    directory = Path(str(files("api").joinpath("static", "docs")))
    there = {path.name for path in directory.iterdir()}
    notice = (directory / "NOTICE.txt").read_text()

    assert there == {*ASSETS, "index.html"}
    assert all(name in notice for name in there if name.endswith(".min.js"))
    assert "Apache License" in (directory / "LICENSE.txt").read_text()
    assert sum(path.stat().st_size for path in directory.iterdir()) < MAX_BYTES


def test_the_page_is_cached_and_revalidated(api: FlaskClient) -> None:
    first = api.get("/api/docs/docs.css")

    revalidated = api.get("/api/docs/docs.css", headers={"If-None-Match": first.headers["etag"]})

    assert first.headers["cache-control"] == "no-cache"
    assert revalidated.status_code == 304
