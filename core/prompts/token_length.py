"""Bounds the characters of one token: a long text cannot have few tokens."""

from __future__ import annotations

from tokenizers import Tokenizer, models, normalizers

#: The most characters that NFC composes into one.
_COMPOSED = 4


def longest_token(tokenizer: Tokenizer) -> int | None:
    """Return the most characters that one token can represent; `None` if there is no bound.

    There is none if a tokenizer removes text, joins unknown characters, or includes adjacent spaces
    in a special token.
    """
    model, normalizer = tokenizer.model, tokenizer.normalizer
    if not isinstance(model, models.BPE) or (model.unk_token and model.fuse_unk):
        return None
    if not isinstance(normalizer, normalizers.NFC | None):
        return None
    if any(token.lstrip or token.rstrip for token in tokenizer.get_added_tokens_decoder().values()):
        return None
    # A byte vocabulary has a character for each byte, and a character has at least one byte.
    longest = max(map(len, tokenizer.get_vocab(with_added_tokens=True)), default=1)
    return longest * (_COMPOSED if normalizer is not None else 1)
