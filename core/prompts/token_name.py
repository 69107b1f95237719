r"""How a token is named where log probabilities are kept: its text, or what tells it from others.

    hello               a token whose bytes are whole characters
    bytes:\xf0\x9f      a part of a character, as OpenAI's completions name it
    special:<|im_end|>  a special token, which adds nothing to a text
    token_id:49160      an id without a token, which models have beyond their vocabulary

So tokens that look alike as text have different names, and a name says the token's bytes.
"""

from __future__ import annotations

_BYTES, _SPECIAL, _ID = "bytes:", "special:", "token_id:"
_ADDS_NOTHING = (_SPECIAL, _ID)
#: Stands for bytes that are no text; with it a name would not say which bytes they are.
_REPLACEMENT = "\ufffd"
_UNSAID = ("\x00", _REPLACEMENT)


def name_bytes(data: bytes) -> str:
    """Name a token that adds these bytes to a text."""
    text = data.decode(errors="replace")
    if not any(character in text for character in _UNSAID):
        return text
    return _BYTES + "".join(f"\\x{byte:02x}" for byte in data)


def name_special(content: str) -> str:
    return _SPECIAL + content


def name_id(token_id: int) -> str:
    return f"{_ID}{token_id}"


def bytes_of(name: str) -> bytes | None:
    """Return what a token adds to a text; `None` if its name does not say.

    Before 0.2.0 a part of a character was named by its replacement character.
    """
    if name.startswith(_ADDS_NOTHING):
        return b""
    if name.startswith(_BYTES + "\\x"):
        return bytes.fromhex(name.removeprefix(_BYTES).replace("\\x", ""))
    return None if _REPLACEMENT in name else name.encode()


def without_mark(name: str) -> str:
    """Return a special token as other servers show it, and every other name as it is."""
    return name.removeprefix(_SPECIAL)
