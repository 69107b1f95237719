r"""Names tokens in log probabilities: by their text, or by a unique form.

    hello               a token whose bytes are whole characters
    bytes:\xf0\x9f      a part of a character, as in OpenAI's completions
    special:<|im_end|>  a special token, which adds no text
    token_id:49160      an id beyond the vocabulary of the tokenizer

So tokens with the same text have different names, and a name contains the token's bytes.
"""

from __future__ import annotations

_BYTES, _SPECIAL, _ID = "bytes:", "special:", "token_id:"
_NO_TEXT = (_SPECIAL, _ID)
#: Replaces bytes that are not UTF-8; a name with it would not identify the bytes.
_REPLACEMENT = "\ufffd"
_AMBIGUOUS = ("\x00", _REPLACEMENT)


def name_bytes(data: bytes) -> str:
    """Return the name of a token that adds these bytes to a text."""
    text = data.decode(errors="replace")
    if not any(character in text for character in _AMBIGUOUS):
        return text
    return _BYTES + "".join(f"\\x{byte:02x}" for byte in data)


def name_special(content: str) -> str:
    return _SPECIAL + content


def name_id(token_id: int) -> str:
    return f"{_ID}{token_id}"


def bytes_of(name: str) -> bytes | None:
    """Return the bytes that a token adds to a text; `None` if its name does not identify them.

    Before 0.2.0 the name of a part of a character was the replacement character.
    """
    if name.startswith(_NO_TEXT):
        return b""
    if name.startswith(_BYTES + "\\x"):
        return bytes.fromhex(name.removeprefix(_BYTES).replace("\\x", ""))
    return None if _REPLACEMENT in name else name.encode()


def without_mark(name: str) -> str:
    """Return a special token in the form of other servers, and any other name unchanged."""
    return name.removeprefix(_SPECIAL)
