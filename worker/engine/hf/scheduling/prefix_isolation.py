"""Separates cached prompt prefixes by account, so that timing reveals no other account's prompt.

The library keys a page by a hash of its tokens and of the page before. `SaltedAllocator` mixes the
account's salt into the tokens of the first page before the hash. The chain of hashes carries the
salt to all later pages.
"""

from __future__ import annotations

import functools
import hashlib
import secrets
from array import array
from collections.abc import Callable

from transformers.generation.continuous_batching.cache import ATTN_TYPE_TO_ALLOCATOR
from transformers.generation.continuous_batching.cache_allocators import FULL_ATTENTION

from worker.engine.hf.scheduling.block_tables import FastTableAllocator

_DIGEST_BYTES = 64
_WORD_BYTES = 4
#: Salts are non-negative 32-bit numbers, because the library hashes token ids as such.
_WORD_MASK = 0x7FFFFFFF


def register_salted_cache() -> None:
    """Make the library's caches use `SaltedAllocator`; without `account_of` it adds no salt."""
    ATTN_TYPE_TO_ALLOCATOR[FULL_ATTENTION] = SaltedAllocator


class SaltedAllocator(FastTableAllocator):
    """The library's allocator with a prefix cache for each account.

    Attributes:
        account_of: returns the account of a library id; `None` shares one cache among all.
        matching: the library id of the prompt that the next lookup is for.
    """

    account_of: Callable[[str], str] | None = None
    matching: str = ""

    def match_prefix_blocks(self, prompt_ids: list[int]) -> list[int]:
        blocks: list[int] = super().match_prefix_blocks(self._salted(self.matching, prompt_ids))
        return blocks

    def mark_complete_blocks(
        self, request_id: str, token_ids: list[int], new_new_blocks: int
    ) -> None:
        super().mark_complete_blocks(
            request_id, self._salted(request_id, token_ids), new_new_blocks
        )

    def _salted(self, library_id: str, token_ids: list[int]) -> list[int]:
        if self.account_of is None:
            return token_ids
        words = salt(self.account_of(library_id), self.tokens_per_page)
        first = [token ^ word for token, word in zip(token_ids, words, strict=False)]
        return first + token_ids[len(first) :]


@functools.lru_cache(maxsize=4096)
def salt(account: str, length: int) -> array[int]:
    """Return `length` secret words of an account; the key of this process derives them."""
    size = length * _WORD_BYTES
    chunks = [
        hashlib.blake2b(
            account.encode(), key=_salt_key(), salt=number.to_bytes(16, "little")
        ).digest()
        for number in range(-(-size // _DIGEST_BYTES))
    ]
    words = array("i", b"".join(chunks)[:size])
    return array("i", (word & _WORD_MASK for word in words))


@functools.lru_cache(maxsize=1)
def _salt_key() -> bytes:
    return secrets.token_bytes(32)
