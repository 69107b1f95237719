"""Refuses compressed bodies and files."""

from __future__ import annotations

from flask import Request

from core.errors import UnsupportedMediaType

#: First bytes of compressed data. No JSON begins with them.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
MAGIC_BYTES = max(map(len, _MAGIC))


def check_content_encoding(request: Request) -> None:
    """Check that the body is not compressed.

    The service decompresses nothing: a small body could become a very large one.

    Raises:
        UnsupportedMediaType: `Content-Encoding` names a coding (RFC 9110, section 15.5.16).
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return
    raise UnsupportedMediaType(
        "Content-Encoding is not supported: send the body uncompressed and without this header",
        param="Content-Encoding",
        headers={"Accept-Encoding": "identity"},
    )


def compression_of(data: bytes) -> str | None:
    """Return the name of the compression that these first bytes show, if any."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
