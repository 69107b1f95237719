"""How the pages look and what they cost; each page joins by one line."""

from __future__ import annotations

import pytest

from tests.admin_ui.conftest import Look
from tests.admin_ui.visits import Visitor, Visits


def test_signing_in(visits: Visits, look: Look) -> None:
    look(visits.open("/sign-in"), "sign-in")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("overview", "/"),
    ],
)
def test_an_admins_page(
    visits: Visits, the_admin: Visitor, look: Look, name: str, path: str
) -> None:
    look(visits.open(path, visitor=the_admin), name)
