"""Fixtures of the reads of pages."""

from __future__ import annotations

from datetime import datetime

import pytest

from models.database.base import utc_now


@pytest.fixture
def now() -> datetime:
    """The middle of a month, so that yesterday and an hour ago are in it."""
    return utc_now().replace(day=15, hour=12, minute=30)
