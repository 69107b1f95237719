"""Reads the `Retry-After` header of a response (RFC 9110, 10.2.3): seconds, or a date.

urllib3's `parse_retry_after` is no replacement: it raises for a number of 5000 digits.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_retry_after(text: str) -> float | None:
    """Return the seconds to wait, or `None` if the header is invalid.

    The result has no upper bound: the caller must limit it.
    """
    if text.isascii() and text.isdigit():
        return float(text)  # infinite, if it has hundreds of digits
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the year has too many digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
