"""The bytes of tokens join to the text that the tokenizers' own decoders give."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models

from core.prompts.tokenizer import PromptTokenizer
from worker.text.incremental_text import IncrementalText
from worker.text.token_bytes import TokenBytes

LETTERS = "▁abcé"


@pytest.fixture(scope="module")
def byte_fallback_tokenizer() -> Tokenizer:
    """A tokenizer like Llama 2's: `▁` is a space, and byte tokens replace unknown letters."""
    words = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), *LETTERS, "▁a", "ab"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[("▁", "a"), ("a", "b")],
            unk_token="<unk>",
            byte_fallback=True,
        )
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True)])
    return tokenizer


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    incremental = IncrementalText(TokenBytes(tokenizer))
    return "".join(incremental.push([one]) for one in ids) + incremental.flush()


@settings(max_examples=300)
@given(text=st.text(alphabet="▁abcé世🎉", max_size=20))
def test_bytes_join_to_the_decoded_text_with_byte_tokens(
    byte_fallback_tokenizer: Tokenizer, text: str
) -> None:
    ids = [1, *byte_fallback_tokenizer.encode(text).ids]

    assert text_of(byte_fallback_tokenizer, ids) == byte_fallback_tokenizer.decode(ids)


def test_an_invalid_byte_damages_no_character_before_it(byte_fallback_tokenizer: Tokenizer) -> None:
    ids = [byte_fallback_tokenizer.token_to_id(f"<0x{byte}>") for byte in ("C3", "A9", "FF")]

    assert text_of(byte_fallback_tokenizer, ids) == "é\ufffd"


def test_every_token_of_the_model_has_the_bytes_of_its_text(
    tokenizer: PromptTokenizer, token_bytes: TokenBytes
) -> None:
    count = tokenizer.tokenizer.get_vocab_size()

    wrong = [
        one
        for one in range(count)
        if token_bytes[one].decode(errors="replace") != tokenizer.decode([one])
    ]

    assert wrong == []
    assert token_bytes[count + 5] == b""


def test_no_two_tokens_have_one_name(token_bytes: TokenBytes, tokenizer: PromptTokenizer) -> None:
    count = tokenizer.tokenizer.get_vocab_size() + 10

    assert len({token_bytes.name(one) for one in range(count)}) == count
