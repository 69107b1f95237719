"""Charts as a browser draws them, whatever its language and zone."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from models.base import utc_now
from tests.admin_ui.visits import Visitor, Visits
from tests.service import Service

#: Whether anything is drawn in the last pixels of a chart's time axis, where a label would be cut.
CUT_LABELS = """
    () => [...document.querySelectorAll('.uplot canvas')].filter(canvas => {
        const axis = Math.round(34 * devicePixelRatio);
        const edge = canvas.getContext('2d')
            .getImageData(canvas.width - 1, canvas.height - axis, 1, axis).data;
        return edge.some((value, i) => i % 4 === 3 && value > 0);
    }).length
"""


@pytest.fixture(scope="module")
def used(site: Service) -> Service:
    """A service whose admin's key answered with more than a thousand tokens."""
    key = site.make_key(name="used")
    body = {"prompt": "one two three " * 500, "maxTokens": 1500, "promptMode": "raw"}
    headers = {"x-api-key": key["secret"]}
    assert site.call("POST", "/api/llm/generate", json=body, headers=headers).ok
    return site


@pytest.mark.parametrize("language", ["de-DE", "ar-EG", "en-IN"])
def test_numbers_look_the_same_in_every_language(
    used: Service, visits: Visits, the_admin: Visitor, language: str
) -> None:
    page = visits.open("/usage?by=model", visitor=the_admin, locale=language)
    page.wait_for_selector(".uplot")

    (answers,) = page.locator("tbody td:nth-child(5)").all_inner_texts()
    assert "," in answers
    described = re.compile(f"Answers: now {answers}, at most {answers}")
    expect(page.locator("[role=img]").first).to_have_attribute("aria-label", described)


def test_times_are_in_english_in_a_browser_of_another_language(
    used: Service, visits: Visits, the_admin: Visitor
) -> None:
    page = visits.open("/jobs", visitor=the_admin, locale="de-DE")

    shown = page.locator("tbody time").first.inner_text()

    assert "M" in shown and "," in shown, shown  # such as "Nov 29, 2026, 8:30 AM"


def test_no_label_of_a_time_axis_is_cut(used: Service, visits: Visits, the_admin: Visitor) -> None:
    # Of so many days there are widths at which the last day has a label.
    since = utc_now() - timedelta(days=28)
    page = visits.open(f"/usage?from={since:%Y-%m-%d}", visitor=the_admin)
    page.wait_for_selector(".uplot")

    for width in range(360, 1480, 60):
        page.set_viewport_size({"width": width, "height": 900})
        visits.watch_of(page).wait_until_quiet(page)
        assert page.evaluate(CUT_LABELS) == 0, f"at {width} pixels"


def test_the_usage_page_is_in_utc_wherever_its_reader_is(
    used: Service, visits: Visits, the_admin: Visitor
) -> None:
    page = visits.open("/usage?by=hour&range=today", visitor=the_admin, timezone="Asia/Kolkata")
    page.wait_for_selector(".uplot")

    hour = page.locator("tbody td").first.inner_text()
    plot = page.locator(".u-over").first
    plot.hover()
    pointed_at = page.locator(".tip").first.inner_text()

    assert hour.endswith(":00")
    assert "(UTC)" in pointed_at
    assert page.locator(".choices .zone").inner_text() == "UTC"
