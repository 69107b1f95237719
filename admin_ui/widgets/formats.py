"""Template filters that format values for a page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from uuid import UUID

from flask import Flask, url_for
from markupsafe import Markup, escape

from core.ids import Prefix, format_id

_SHORT = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
NOTHING = "\N{EN DASH}"


def number(value: int | float | None) -> str:
    """Format a whole number: `1234567` is `1,234,567`."""
    return NOTHING if value is None else f"{value:,.0f}"


def short(value: int | float | None) -> str:
    """Format a number in three digits for narrow places: `1234567` is `1.23M`."""
    if value is None:
        return NOTHING
    rounded = float(f"{value:.3g}")
    for size, letter in _SHORT:
        if abs(rounded) >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"


def percent(value: float | None) -> str:
    """Format a share of 1: `0.9991` is `99.91%`; only 1 is `100%`."""
    if value is None:
        return NOTHING
    if value in {0, 1}:
        return f"{value:.0%}"
    return f"{min(value, 0.9999):.2%}" if value > 0.99 else f"{value:.1%}"


def money(value: Decimal, digits: int = 2) -> str:
    """Format an amount of money: `Decimal("1234.5")` is `1,234.50`."""
    return f"{value:,.{digits}f}"


def change(share: float) -> str:
    """Format a relative change: `0.034` is `3.4%`, `12.5` is `1,250%`."""
    return f"{share:.1%}" if share < 0.1 else f"{share:,.0%}"


def gib(size: int) -> str:
    """Format bytes as GiB."""
    return f"{size / 2**30:.1f}"


def duration(milliseconds: float | None) -> str:
    """Format a duration: `950` is `950 ms`, `1234` is `1.23 s`, `75000` is `1 min 15 s`."""
    if milliseconds is None:
        return NOTHING
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    seconds = milliseconds / 1000
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min")) if hours else ((minutes, "min"), (rest, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count)


def moment(value: datetime | None, style: str = "time") -> Markup:
    """Format a time in the browser's time zone; without JavaScript in UTC.

    Args:
        style: `time` has minutes, `second` has seconds, `day` is the date, `ago` is relative.
    """
    if value is None:
        return Markup(NOTHING)  # noqa: S704 - a constant
    utc = value.astimezone(UTC)
    text = f"{utc:%Y-%m-%d}" if style == "day" else f"{utc:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}" data-style="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), style, text
    )


def id_text(value: UUID | None, prefix: str) -> str:
    """Format an id as the API writes it: `{{ job.id | id_text("gen") }}`."""
    return format_id(Prefix(prefix), value) if value else NOTHING


def breakable(text: str) -> Markup:
    """Let a long word break after `@`, `.`, `_` and `-`."""
    broken = escape(text)
    for sign in ("@", ".", "_", "-"):
        broken = broken.replace(sign, Markup(sign + "<wbr>"))  # noqa: S704 - a constant
    return broken


def html_attributes(attributes: Mapping[str, object]) -> Markup:
    """Format the attributes of an element.

    `True` gives an attribute without a value; `False` and `None` give no attribute. Jinja's
    `xmlattr` writes `autofocus="False"`, which turns the attribute on.
    """
    written = [
        Markup(" {}").format(name) if value is True else Markup(' {}="{}"').format(name, value)
        for name, value in attributes.items()
        if value is not None and value is not False
    ]
    return Markup("").join(written)


def register_formats(app: Flask) -> None:
    """Add the filters and `asset` to the templates."""
    for function in (
        number,
        short,
        percent,
        money,
        change,
        gib,
        duration,
        moment,
        id_text,
        breakable,
        html_attributes,
    ):
        app.add_template_filter(function)
    app.jinja_env.globals["asset"] = _Assets()


class _Assets:
    """Returns URLs of static files; each contains a hash, so that browsers may cache the file."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._versions:
            content = files("admin_ui").joinpath("static", name).read_bytes()
            self._versions[name] = sha256(content).hexdigest()[:12]
        return url_for("static", filename=name, v=self._versions[name])
