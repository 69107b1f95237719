"""How values look on a page: as filters of the templates."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from uuid import UUID

from flask import Flask, url_for
from markupsafe import Markup, escape

from core.ids import Prefix, show_id

_SHORT = ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k"))
NOTHING = "\N{EN DASH}"


def number(value: int | float | None) -> str:
    """`1234567` is `1,234,567`."""
    return NOTHING if value is None else f"{value:,.0f}"


def short(value: int | float | None) -> str:
    """`1234567` is `1.23M`: where there is little room and the last digit does not matter."""
    if value is None:
        return NOTHING
    rounded = float(f"{value:.3g}")
    for size, letter in _SHORT:
        if abs(rounded) >= size:
            return f"{rounded / size:.3g}{letter}"
    return f"{rounded:.3g}"


def percent(value: float | None) -> str:
    """`0.9991` is `99.91%`; only all of it is `100%`."""
    if value is None:
        return NOTHING
    if value in {0, 1}:
        return f"{value:.0%}"
    return f"{min(value, 0.9999):.2%}" if value > 0.99 else f"{value:.1%}"


def money(value: Decimal, digits: int = 2) -> str:
    """`Decimal("1234.5")` is `1,234.50`."""
    return f"{value:,.{digits}f}"


def change(share: float) -> str:
    """How much something grew or shrank: `0.034` is `3.4%`, `12.5` is `1,250%`."""
    return f"{share:.1%}" if share < 0.1 else f"{share:,.0%}"


def gib(size: int) -> str:
    """Bytes in GiB."""
    return f"{size / 2**30:.1f}"


def duration(milliseconds: float | None) -> str:
    """`950` is `950 ms`, `1234` is `1.23 s`, `75000` is `1 min 15 s`, `60000` is `1 min`."""
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


def moment(value: datetime | None, shown: str = "time") -> Markup:
    """A time in the viewer's zone; without JavaScript in UTC.

    Args:
        shown: `time` with minutes, `second` with seconds, `day` the date alone, `ago` how long ago.
    """
    if value is None:
        return Markup(NOTHING)  # noqa: S704 - a constant
    utc = value.astimezone(UTC)
    text = f"{utc:%Y-%m-%d}" if shown == "day" else f"{utc:%Y-%m-%d %H:%M} UTC"
    return Markup('<time datetime="{}" data-shown="{}">{}</time>').format(
        utc.isoformat(timespec="milliseconds"), shown, text
    )


def shown_id(value: UUID | None, prefix: str) -> str:
    """An id as the API writes it: `{{ job.id | shown_id("gen") }}`."""
    return show_id(Prefix(prefix), value) if value else NOTHING


def breakable(text: str) -> Markup:
    """A long word that may break after `@`, `.`, `_` and `-`."""
    broken = escape(text)
    for sign in ("@", ".", "_", "-"):
        broken = broken.replace(sign, Markup(sign + "<wbr>"))  # noqa: S704 - a constant
    return broken


def html_attributes(attributes: Mapping[str, object]) -> Markup:
    """Attributes of an element; `True` is one without a value, `False` and `None` are none.

    Jinja's `xmlattr` writes `autofocus="False"`, which in HTML is on.
    """
    written = [
        Markup(" {}").format(name) if value is True else Markup(' {}="{}"').format(name, value)
        for name, value in attributes.items()
        if value is not None and value is not False
    ]
    return Markup("").join(written)


def register_formats(app: Flask) -> None:
    for function in (
        number,
        short,
        percent,
        money,
        change,
        gib,
        duration,
        moment,
        shown_id,
        breakable,
        html_attributes,
    ):
        app.add_template_filter(function)
    app.jinja_env.globals["asset"] = _Assets()


class _Assets:
    """Addresses of static files; each names what it holds, so that browsers may keep it."""

    def __init__(self) -> None:
        self._versions: dict[str, str] = {}

    def __call__(self, name: str) -> str:
        if name not in self._versions:
            content = files("admin_ui").joinpath("static", name).read_bytes()
            self._versions[name] = sha256(content).hexdigest()[:12]
        return url_for("static", filename=name, v=self._versions[name])
