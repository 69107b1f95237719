"""The watch detects each kind of fault that a page can have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.browser.appearance import check_appearance
from tests.support.browser.visits import Visits
from tests.support.polling import wait_until

FAULTS = {
    r"console: logged": "console.error('logged')",
    r"exception: .*thrown": "setTimeout(() => { throw Error('thrown') })",
    r"console: .*Content Security Policy.*": (
        "document.body.insertAdjacentHTML('beforeend', '<p style=\"color: red\">red</p>')"
    ),
    r"404 GET http://.*/nowhere": "fetch('/nowhere').then(answer => answer.text())",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_the_test(visits: Visits, fault: str) -> None:
    page = visits.open("/sign-in")
    watch = visits.watch_of(page)
    watch.check()

    page.evaluate(f"() => {{ {FAULTS[fault]} }}")

    wait_until(lambda: page.evaluate("() => true") and watch.faults, 10)
    assert len(watch.faults) == 1
    assert re.fullmatch(fault, watch.faults[0], re.DOTALL)
    with pytest.raises(pytest.fail.Exception, match=fault):
        watch.check()
    watch.faults.clear()


def test_a_failed_request_fails_the_test(visits: Visits) -> None:
    page = visits.open("/sign-in")
    watch = visits.watch_of(page)
    page.context.set_offline(True)

    page.evaluate("() => fetch('/sign-in').catch(() => 0)")

    wait_until(lambda: page.evaluate("() => true") and watch.faults, 10)
    assert f"net::ERR_INTERNET_DISCONNECTED GET {page.url}" in watch.faults
    watch.faults.clear()


def test_a_provoked_fault_does_not_fail_the_test(visits: Visits) -> None:
    page = visits.open("/sign-in", provoked=["^401 POST "])

    page.get_by_label("Email").fill("unknown@example.com")
    page.get_by_label("Password").fill("wrong-password")
    page.get_by_role("button", name="Sign in").click()

    assert page.get_by_role("alert").inner_text() == "Incorrect email or password."
    visits.watch_of(page).check()


def test_a_page_that_is_wide_or_pale_fails_the_test(visits: Visits, tmp_path: Path) -> None:
    page = visits.open("/sign-in")
    page.evaluate(
        """() => {
            document.querySelector("h1").style.width = "800px";
            const text = document.querySelector("label");
            text.style.color = "#888";
            text.style.backgroundColor = "#999";
        }"""
    )

    with pytest.raises(pytest.fail.Exception) as failed:
        check_appearance(page, visits.watch_of(page), "wide-and-pale", tmp_path)

    faults = str(failed.value)
    for theme, width in (("light", 1440), ("dark", 390)):
        assert f"wide-and-pale-390-{theme}: scrolls sideways by" in faults
        assert f"wide-and-pale-{width}-{theme}: color-contrast: label" in faults
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures >= {f"wide-and-pale-{w}.png" for w in ("1440-light", "390-light", "390-dark")}
