"""Finds the fences of Markdown code blocks among stop strings."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: A fence with or without a language.
_FENCE = re.compile(r"\s*(?P<marks>(?P<kind>`|~)(?P=kind){2,})[\w+#.-]*\s*")


def find_fence(stop: Iterable[str]) -> str | None:
    """Return the marks of the first stop string that is a fence, or `None`."""
    found = (match["marks"] for text in stop if (match := _FENCE.fullmatch(text)))
    return next(found, None)
