"""Appearance and cost of the page to sign in."""

from __future__ import annotations

from tests.admin_ui.conftest import PageCheck
from tests.support.browser.visits import Visits


def test_the_sign_in_page_has_no_faults(visits: Visits, check_page: PageCheck) -> None:
    check_page(visits.open("/sign-in"), "sign-in")
