"""Format batches as text for people."""

from __future__ import annotations

from collections.abc import Sequence

from cli.batch.responses import BatchView

_COUNTS = ("queued", "running", "succeeded", "failed", "cancelled", "expired")


def duration(seconds: float) -> str:
    """Return a duration as text, such as `2 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def batch_text(batch: BatchView) -> str:
    """Return a batch as lines of name and value."""
    body = batch.body
    counts = ", ".join(f"{batch.count(name)} {name}" for name in _COUNTS if batch.count(name))
    rows: list[tuple[str, object]] = [
        ("id", batch.id),
        ("name", body.get("name")),
        ("status", batch.status),
        ("lines", f"{batch.total}: {counts}" if counts else batch.total),
        ("tokens", _tokens(body.get("usage"))),
        ("retry of", body.get("retryOf")),
        ("model", body.get("model")),
        ("created", body.get("createdAt")),
        ("started", body.get("startedAt")),
        ("finished", body.get("finishedAt")),
    ]
    if not batch.is_final:
        rows.append(("expires", body.get("expiresAt")))
        if batch.estimated_seconds is not None:
            rows.append(("left", f"about {duration(batch.estimated_seconds)}"))
    return "\n".join(f"{name + ':':<10}{value}" for name, value in rows if value is not None)


def batch_table(batches: Sequence[BatchView]) -> str:
    """Return a table with one batch a line."""
    head = ("ID", "STATUS", "DONE", "LOST", "CREATED", "NAME")
    rows = [
        (
            batch.id,
            batch.status,
            f"{batch.ended}/{batch.total}",
            str(batch.lost),
            str(batch.body.get("createdAt") or "")[:19],
            str(batch.body.get("name") or ""),
        )
        for batch in batches
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    )


def _tokens(usage: object) -> str | None:
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return f"{prompt} in, {completion} out"
