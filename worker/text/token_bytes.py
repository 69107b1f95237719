"""The bytes that each token of a vocabulary adds to a text.

A character may span several tokens: bytes can be joined token by token, text cannot.
The bytes of all tokens, decoded as UTF-8, equal the text of the tokenizer's own decoder, with one
intended difference. For one wrong byte that decoder replaces a whole run of byte tokens; here the
valid characters of the run stay.
"""

from __future__ import annotations

import re

from tokenizers import Tokenizer
from tokenizers.decoders import Decoder

from core.prompts.token_name import name_bytes, name_id, name_special

#: An ordinary token: decoding a token after it reveals whether the token starts with a space.
_ANCHOR = "a"
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


class TokenBytes:
    """Maps token ids to bytes; a special token has none."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder()
        self._special = {number: token.content for number, token in added.items() if token.special}
        decoder: Decoder | None = tokenizer.decoder
        self._decoder = decoder
        self._has_byte_letters = decoder is not None and decoder.decode(["Ã", "©"]) == "é"
        self._has_byte_tokens = decoder is not None and decoder.decode(["<0xC3>", "<0xA9>"]) == "é"
        self._known: dict[int, bytes] = {}

    def __getitem__(self, token_id: int) -> bytes:
        """Return the bytes that the token adds in the middle of a text."""
        known = self._known.get(token_id)
        if known is None:
            known = self._known[token_id] = self._find(token_id)
        return known

    def at_start(self, token_id: int) -> bytes:
        """Return its bytes at the start of a text, where some decoders drop a space."""
        content = self._content(token_id)
        if content and self._decoder is not None and not self._is_bytes(content):
            return self._decoder.decode([content]).encode()
        return self[token_id]

    def name(self, token_id: int) -> str:
        """Return a token's name in log probabilities (`core/prompts/token_name.py`)."""
        if token_id in self._special:
            return name_special(self._special[token_id])
        data = self[token_id]
        return name_bytes(data) if data else name_id(token_id)

    def _find(self, token_id: int) -> bytes:
        content = self._content(token_id)
        if not content:
            return b""
        if self._has_byte_letters:
            return _bytes_of_letters(content)
        byte = _BYTE_TOKEN.fullmatch(content) if self._has_byte_tokens else None
        if byte is not None:
            return bytes.fromhex(byte[1])
        if self._decoder is None:
            return f" {content}".encode()
        text = self._decoder.decode([_ANCHOR, content])
        return text.removeprefix(self._decoder.decode([_ANCHOR])).encode()

    def _content(self, token_id: int) -> str | None:
        """Return the vocabulary's entry; models have ids beyond their vocabulary."""
        return None if token_id in self._special else self._tokenizer.id_to_token(token_id)

    def _is_bytes(self, content: str) -> bool:
        is_byte = self._has_byte_tokens and _BYTE_TOKEN.fullmatch(content)
        return self._has_byte_letters or bool(is_byte)


def _byte_letters() -> dict[str, int]:
    """Return the letters that represent bytes in vocabularies like GPT-2's."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_LETTERS = _byte_letters()


def _bytes_of_letters(content: str) -> bytes:
    try:
        return bytes([_LETTERS[letter] for letter in content])
    except KeyError:  # an added token is plain text
        return content.encode()
