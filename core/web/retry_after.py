"""The `Retry-After` header of an answer (RFC 9110, 10.2.3): seconds, or a date."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def read_retry_after(text: str) -> float | None:
    """Return the seconds to wait; `None` if the header says nothing that can be understood.

    Whoever waits bounds them: a header may ask for any time.
    """
    if text.isascii() and text.isdigit():
        return float(text)  # for ever, if it has hundreds of digits
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # the second of a year with 30 digits
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
