"""Where the present request comes from."""

from __future__ import annotations

from flask import g, request


def caller_address() -> str:
    """Return the caller's address: what a token of ours says, else that of the connection."""
    return g.get("told_address") or request.remote_addr or ""


def believe_address(address: str | None) -> None:
    """Take the caller to be where a valid token says; `None` says nothing."""
    if address:
        g.told_address = address
