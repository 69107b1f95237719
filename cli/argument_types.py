"""Types of `argparse`'s options that several subcommands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from core.text.integers import NINE_DIGITS, bounded_integer


def whole_number(*, least: int = 1, most: int = NINE_DIGITS) -> Callable[[str], int]:
    """Return the type of a whole number from `least` to `most`."""
    bounds = f"from {least} to {most}" if most != NINE_DIGITS else f"of at least {least}"

    def parse(text: str) -> int:
        if (number := bounded_integer(text, least=least, most=most)) is None:
            raise argparse.ArgumentTypeError(f"must be a whole number {bounds}")
        return number

    return parse
