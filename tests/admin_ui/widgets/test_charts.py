"""Charts in browsers of several languages and time zones."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from models.database.base import utc_now
from tests.support.browser.visits import Viewer, Visits
from tests.support.service import Service

#: Counts the charts whose time axis has a drawn pixel in its last column: a label is cut there.
CUT_LABELS = """
    () => [...document.querySelectorAll('.uplot canvas')].filter(canvas => {
        const axis = Math.round(34 * devicePixelRatio);
        const edge = canvas.getContext('2d')
            .getImageData(canvas.width - 1, canvas.height - axis, 1, axis).data;
        return edge.some((value, i) => i % 4 === 3 && value > 0);
    }).length
"""


@pytest.fixture(scope="module")
def used_service(ui_service: Service) -> Service:
    """A service with a completion of more than a thousand tokens."""
    key = ui_service.make_key(name="used")
    body = {"prompt": "one two three " * 500, "maxTokens": 1500, "promptMode": "raw"}
    headers = {"x-api-key": key["secret"]}
    assert ui_service.call("POST", "/api/llm/generate", json=body, headers=headers).ok
    return ui_service


@pytest.mark.parametrize("language", ["de-DE", "ar-EG", "en-IN"])
def test_numbers_have_one_format_in_every_language(
    used_service: Service, visits: Visits, admin_viewer: Viewer, language: str
) -> None:
    page = visits.open("/usage?by=model", viewer=admin_viewer, locale=language)
    page.wait_for_selector(".uplot")

    (tokens,) = page.locator("tbody td:nth-child(5)").all_inner_texts()
    assert "," in tokens
    described = re.compile(f"Completions: now {tokens}, at most {tokens}")
    expect(page.locator("[role=img]").first).to_have_attribute("aria-label", described)


def test_times_are_in_english_in_a_browser_of_another_language(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/jobs", viewer=admin_viewer, locale="de-DE")

    text = page.locator("tbody time").first.inner_text()

    assert "M" in text and "," in text, text  # such as "Nov 29, 2026, 8:30 AM"


def test_no_label_of_a_time_axis_is_cut(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    # With this many days, the last day has a label at some of the widths.
    since = utc_now() - timedelta(days=28)
    page = visits.open(f"/usage?from={since:%Y-%m-%d}", viewer=admin_viewer)
    page.wait_for_selector(".uplot")

    for width in range(360, 1480, 60):
        page.set_viewport_size({"width": width, "height": 900})
        visits.watch_of(page).wait_until_quiet(page)
        assert page.evaluate(CUT_LABELS) == 0, f"at {width} pixels"


def test_the_usage_page_is_in_utc_in_every_time_zone(
    used_service: Service, visits: Visits, admin_viewer: Viewer
) -> None:
    page = visits.open("/usage?by=hour&range=today", viewer=admin_viewer, timezone="Asia/Kolkata")
    page.wait_for_selector(".uplot")

    hour = page.locator("tbody td").first.inner_text()
    plot = page.locator(".u-over").first
    plot.hover()
    tooltip = page.locator(".tip").first.inner_text()

    assert hour.endswith(":00")
    assert "(UTC)" in tooltip
    assert page.locator(".choices .zone").inner_text() == "UTC"
