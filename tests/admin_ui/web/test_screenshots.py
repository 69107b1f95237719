"""Screenshots and cost of the page to sign in."""

from __future__ import annotations

from tests.admin_ui.conftest import Snapshot
from tests.support.browser.visits import Visits


def test_signing_in(visits: Visits, snapshot: Snapshot) -> None:
    snapshot(visits.open("/sign-in"), "sign-in")
