"""How many characters of a text one token can stand for: a longer text cannot have few tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers

#: Characters that a normalizer of this kind makes one of.
_COMPOSED = 4


def longest_token(tokenizer: Tokenizer) -> int | None:
    """Return the most characters of one token; `None` if a token can stand for any number.

    It can where a tokenizer removes text, joins what it does not know, or lets a special token take
    the spaces beside it.
    """
    model, normalizer = tokenizer.model, tokenizer.normalizer
    if not isinstance(model, models.BPE) or (model.unk_token and model.fuse_unk):
        return None
    if not isinstance(normalizer, normalizers.NFC | None):
        return None
    if any(token.lstrip or token.rstrip for token in tokenizer.get_added_tokens_decoder().values()):
        return None
    # A vocabulary of bytes has a character for each byte, and a character has one byte or more.
    longest = max(map(len, tokenizer.get_vocab(with_added_tokens=True)), default=1)
    return longest * (_COMPOSED if normalizer is not None else 1)
