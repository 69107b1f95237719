"""The layout of the pages: alignment, the menu on a phone, and unknown paths."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Locator, ViewportSize, expect

from tests.support.browser.appearance import DESKTOP, PHONE, Theme
from tests.support.browser.axe import find_violations
from tests.support.browser.pages import sign_in, text_of
from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service

WIDE = ViewportSize(width=2560, height=1300)


def box_of(part: Locator) -> dict[str, Any]:
    """Return position and size of an element, in CSS pixels."""
    box = part.bounding_box()
    assert box is not None
    return dict(box)


def test_a_wide_window_has_its_page_in_the_middle(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/sign-in", size=WIDE)

    card = box_of(page.get_by_role("article"))

    assert card["x"] + card["width"] / 2 == pytest.approx(WIDE["width"] / 2, abs=2)
    page = visits.open("/settings", size=WIDE, viewer=admin_viewer)
    side, main = box_of(page.locator(".side")), box_of(page.get_by_role("main"))
    left = main["x"] - side["width"]
    assert left == pytest.approx(WIDE["width"] - main["x"] - main["width"], abs=2)


@pytest.mark.parametrize("javascript", [True, False], ids=["with", "without"])
def test_the_menu_on_a_phone_is_a_drawer(
    visits: Visits, admin_viewer: Viewer, javascript: bool
) -> None:
    page = visits.open("/settings", size=PHONE, viewer=admin_viewer, javascript=javascript)
    opener = page.get_by_role("button", name="Menu", exact=True)
    drawer = page.locator("#menu")
    expect(drawer).to_be_hidden()

    opener.click()

    box = box_of(drawer)
    assert (box["y"], box["height"]) == (0, PHONE["height"])
    expect(drawer.get_by_role("button", name="Sign out")).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    opener.click()
    page.mouse.click(PHONE["width"] - 10, 400)
    expect(drawer).to_be_hidden()
    opener.click()
    drawer.get_by_role("link", name="API keys").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("API keys")


@pytest.mark.parametrize(("theme", "size"), [("dark", DESKTOP), ("light", PHONE)])
def test_the_frame_is_accessible_where_the_pages_are_not_checked(
    visits: Visits, admin_viewer: Viewer, theme: Theme, size: ViewportSize
) -> None:
    """`check_page` checks the light theme on a desktop and the dark theme on a phone."""
    page = visits.open("/settings", size=size, theme=theme, viewer=admin_viewer)
    visits.watch_of(page).wait_until_quiet(page)

    assert find_violations(page) == []


def test_an_unknown_path_keeps_the_menu(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/nope", viewer=admin_viewer, provoked=["^404 GET .*/nope"])

    expect(page.get_by_role("heading", level=1)).to_have_text("Page not found")

    expect(page.locator(".side").get_by_role("link", name="API keys")).to_be_visible()


def test_an_unknown_path_without_a_session_has_the_brand(pages_client: FlaskClient) -> None:
    response = pages_client.get("/nope")

    assert response.status_code == 404
    assert "BountyCoder Page not found" in text_of(response)
    assert "Sign out" not in response.text
    sign_in(pages_client)
    assert "Sign out" in pages_client.get("/nope").text


def test_links_to_other_pages_stand_beside_each_other(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    key = ui_service.make_key(name="linked")
    page = visits.open(f"/keys/{key['id']}", viewer=admin_viewer)
    links = page.get_by_role("navigation", name="More about this")

    boxes = [box_of(link) for link in links.get_by_role("link").all()]

    gaps = [b["x"] - a["x"] - a["width"] for a, b in pairwise(boxes)]
    assert len(gaps) == 3 and max(gaps) < 40
    figures = box_of(page.locator(".figures").first)
    assert figures["y"] - boxes[0]["y"] - boxes[0]["height"] >= 8


def test_the_labels_of_the_menu_are_aligned(visits: Visits, admin_viewer: Viewer) -> None:
    page = visits.open("/settings", viewer=admin_viewer)

    left_edges = page.locator(".side a:not(.brand), .side .person button").evaluate_all(
        """parts => parts.map(part => {
            const words = document.createRange();
            words.selectNodeContents(part);
            words.setStartAfter(part.querySelector("svg"));
            return Math.round(words.getBoundingClientRect().x);
        })"""
    )

    assert len(left_edges) > 8 and len(set(left_edges)) == 1


def test_a_state_is_as_high_in_a_heading_as_in_a_table(
    visits: Visits, ui_service: Service, admin_viewer: Viewer
) -> None:
    key = ui_service.make_key(name="measured")
    page = visits.open(f"/keys/{key['id']}", viewer=admin_viewer)

    in_heading = box_of(page.locator("h1 .state"))["height"]

    page.get_by_role("button", name="Edit", exact=True).click()
    close = box_of(page.get_by_role("button", name="Close"))
    assert min(close["width"], close["height"]) >= 24
    page.goto("/keys")
    assert in_heading == pytest.approx(box_of(page.locator("tbody .state").first)["height"], abs=1)
