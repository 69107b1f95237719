"""Bodies and files that came packed: this service takes none of them."""

from __future__ import annotations

from flask import Request

from core.errors import UnsupportedMediaType

#: How packed bytes begin. No JSON begins so.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
}
MAGIC_BYTES = max(map(len, _MAGIC))


def refuse_coding(request: Request) -> None:
    """Check that the body came as it is.

    Nothing is unpacked: a small body could become a very large one.

    Raises:
        UnsupportedMediaType: `Content-Encoding` names a coding (RFC 9110, section 15.5.16).
    """
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding in {"", "identity"}:
        return
    raise UnsupportedMediaType(
        "Content-Encoding is not supported: send the body unpacked and without this header",
        param="Content-Encoding",
        headers={"Accept-Encoding": "identity"},
    )


def packing_of(data: bytes) -> str | None:
    """Return the name of the format that these first bytes belong to, if they are packed."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), None)
