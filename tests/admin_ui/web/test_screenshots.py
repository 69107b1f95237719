"""How the pages look and what they cost; each page joins by one line."""

from __future__ import annotations

from tests.admin_ui.conftest import Look
from tests.support.browser.visits import Visits


def test_signing_in(visits: Visits, look: Look) -> None:
    look(visits.open("/sign-in"), "sign-in")
