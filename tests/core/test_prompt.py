from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import InvalidRequest
from core.generation import ChatMessage, Generation
from core.prompt import PromptTokenizer
from core.settings import PromptMode

PROMPTS = ["Write a function", "héllo 🎉 世界", "  def f():\n\treturn 1\n", "<|im_end|> {{ x }}"]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_is_templated_and_encoded_as_transformers_does(
    tokenizer: PromptTokenizer, model_dir: Path, prompt: str
) -> None:
    from transformers import AutoTokenizer

    expected = AutoTokenizer.from_pretrained(str(model_dir)).apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
    )

    assert tokenizer.encode(Generation(prompt=prompt)) == expected


def test_messages_with_a_system_turn_are_templated_as_transformers_does(
    tokenizer: PromptTokenizer, model_dir: Path
) -> None:
    from transformers import AutoTokenizer

    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    expected = AutoTokenizer.from_pretrained(str(model_dir)).apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False
    )

    messages = tuple(ChatMessage.model_validate(turn) for turn in turns)

    assert tokenizer.encode(Generation(messages=messages)) == expected


def test_raw_mode_completes_the_prompt_as_it_is(model_dir: Path) -> None:
    raw = PromptTokenizer.load(str(model_dir), PromptMode.RAW)

    assert raw.decode(raw.encode(Generation(prompt="def f(x):"))) == "def f(x):"


def test_decoding_gives_the_text_again(tokenizer: PromptTokenizer) -> None:
    text = "naïve = '🎉世界'  # ok\n"

    assert tokenizer.decode(tokenizer.tokenizer.encode(text).ids) == text


def test_a_template_that_refuses_is_the_callers_error(tokenizer: PromptTokenizer) -> None:
    from dataclasses import replace

    from core.prompt import _environment

    picky = replace(
        tokenizer, template=_environment().from_string("{{ raise_exception('no system turn') }}")
    )

    with pytest.raises(InvalidRequest, match="no system turn"):
        picky.encode(Generation(prompt="x"))
