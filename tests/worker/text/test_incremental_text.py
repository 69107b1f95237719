"""Tokens become the text that the tokenizer decodes, however they are divided, at a steady pace."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.prompts.tokenizer import PromptTokenizer
from worker.text.incremental_text import IncrementalText
from worker.text.token_bytes import TokenBytes

SNIPPETS = st.sampled_from(
    [
        "def f(x):\n\treturn x  # ok\n",
        "🎉👩‍👩‍👧‍👦🏳️‍🌈",
        "你好，世界。コードを書く",
        "naïve café  –  «ça»",
        "    ",
        "<|im_end|>",
        "a",
        "\n\n",
    ]
)
TEXTS = st.lists(SNIPPETS | st.text(max_size=8), max_size=8).map("".join)


def divide(ids: list[int], cuts: list[int]) -> list[list[int]]:
    """Divide ids at the given positions."""
    bounds = sorted({min(cut, len(ids)) for cut in cuts} | {0, len(ids)})
    return [ids[a:b] for a, b in pairwise(bounds)]


CUTS = st.lists(st.integers(0, 200), max_size=40)


@settings(max_examples=300)
@given(text=TEXTS, cuts=CUTS)
def test_pieces_of_a_text_join_to_the_text(
    tokenizer: PromptTokenizer, token_bytes: TokenBytes, text: str, cuts: list[int]
) -> None:
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    incremental = IncrementalText(token_bytes)

    pieces = [incremental.push(part) for part in divide(ids, cuts)] + [incremental.flush()]

    assert "".join(pieces) == tokenizer.decode(ids)


@settings(max_examples=300)
@given(ids=st.lists(st.integers(0, 49151), max_size=60), cuts=CUTS)
def test_pieces_of_any_ids_join_to_the_decoded_text(
    tokenizer: PromptTokenizer, token_bytes: TokenBytes, ids: list[int], cuts: list[int]
) -> None:
    incremental = IncrementalText(token_bytes)

    pieces = [incremental.push(part) for part in divide(ids, cuts)] + [incremental.flush()]

    assert "".join(pieces) == tokenizer.decode(ids)


@pytest.fixture(scope="session")
def partial_tokens(token_bytes: TokenBytes) -> list[int]:
    """Tokens of parts of characters, and special tokens."""
    ids = [i for i in range(49152) if "\ufffd" in token_bytes[i].decode(errors="replace")]
    return [*ids, 0, 1, 2]


@settings(max_examples=300)
@given(numbers=st.lists(st.integers(0, 10**6), max_size=60))
def test_pieces_of_partial_characters_join_to_the_decoded_text(
    tokenizer: PromptTokenizer,
    token_bytes: TokenBytes,
    partial_tokens: list[int],
    numbers: list[int],
) -> None:
    ids = [partial_tokens[number % len(partial_tokens)] for number in numbers]
    incremental = IncrementalText(token_bytes)

    pieces = [incremental.push([one]) for one in ids] + [incremental.flush()]

    assert "".join(pieces) == tokenizer.decode(ids)


@pytest.mark.alone
@pytest.mark.parametrize("hard", ["\ufffd", "<|im_end|>", "🏳️‍🌈"])
def test_every_text_is_decoded_as_fast_as_letters(
    tokenizer: PromptTokenizer, token_bytes: TokenBytes, hard: str
) -> None:
    def seconds(text: str) -> float:
        ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
        return min(_seconds_of(token_bytes, ids, 16_000) for _ in range(3))

    assert seconds(hard) < 2 * seconds("é") + 0.02


def _seconds_of(token_bytes: TokenBytes, ids: Sequence[int], count: int) -> float:
    incremental = IncrementalText(token_bytes)
    began_at = time.perf_counter()
    for index in range(count):
        incremental.push((ids[index % len(ids)],))
    return time.perf_counter() - began_at


def test_part_of_a_character_is_never_returned(
    tokenizer: PromptTokenizer, token_bytes: TokenBytes
) -> None:
    ids = tokenizer.tokenizer.encode("🏳️‍🌈世界", add_special_tokens=False).ids
    incremental = IncrementalText(token_bytes)

    pieces = [incremental.push([token]) for token in ids]

    assert len(ids) > len("🏳️‍🌈世界")
    assert not [piece for piece in pieces if "\ufffd" in piece]
