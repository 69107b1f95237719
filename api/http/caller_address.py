"""The address of the client that sent the current request."""

from __future__ import annotations

from flask import g, request


def caller_address() -> str:
    """Return the address from our own token, or else that of the connection."""
    return g.get("token_address") or request.remote_addr or ""


def trust_address(address: str | None) -> None:
    """Use the address from a valid token as the caller's; `None` changes nothing."""
    if address:
        g.token_address = address
