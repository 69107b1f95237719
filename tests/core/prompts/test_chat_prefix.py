from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from core.generation import ChatMessage, Generation
from core.prompts.chat_prefix import ChatPrefix
from core.prompts.tokenizer import PromptTokenizer

PROMPTS = [
    "Write a function",
    "héllo 🎉 世界",
    "  def f():\n\treturn 1\n",
    "\n",
    "<|im_start|>system\n<|im_end|> {{ x }}",
    "|>x<|im_start|",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_chat_has_the_same_ids_with_its_prefix_and_without(
    tokenizer: PromptTokenizer, prompt: str
) -> None:
    chats = [
        [ChatMessage(role="user", content=prompt)],
        [ChatMessage(role="system", content=prompt), ChatMessage(role="user", content=prompt)],
    ]

    for messages in chats:
        generation = Generation(messages=tuple(messages))
        plain = replace(tokenizer, prefix=ChatPrefix())
        assert tokenizer.encode(generation) == plain.encode(generation)


def test_the_small_models_system_turn_is_encoded_once(tokenizer: PromptTokenizer) -> None:
    prefix = tokenizer.prefix

    assert prefix.text.startswith("<|im_start|>system")
    assert prefix.text.endswith("<|im_end|>\n<|im_start|>")
    assert tokenizer.tokenizer.decode(list(prefix.ids), skip_special_tokens=False) == prefix.text


@pytest.mark.parametrize(
    ("mark", "longer"),
    [
        (AddedToken("<s>", rstrip=True, special=True), None),
        (AddedToken("<s>", normalized=True), None),
        (AddedToken("<s>", special=True), AddedToken("<s>x", special=True)),
    ],
    ids=["takes what follows", "normalized", "part of another"],
)
def test_a_token_that_later_text_may_change_ends_no_prefix(
    mark: AddedToken, longer: AddedToken | None
) -> None:
    letters = {letter: i for i, letter in enumerate("abxy1 \n")}
    tokenizer = Tokenizer(models.WordLevel({"?": 99, **letters}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_tokens([mark, *([longer] if longer else [])])

    assert ChatPrefix.find(tokenizer, lambda prompt: f"a<s>{prompt}") == ChatPrefix()


def test_a_prefix_that_would_change_the_ids_is_not_used() -> None:
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "_x": 1, "x": 2, "a": 3}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="_", prepend_scheme="first")
    tokenizer.add_tokens([AddedToken("<s>", special=True)])

    assert ChatPrefix.find(tokenizer, lambda prompt: f"a<s>{prompt}") == ChatPrefix()
