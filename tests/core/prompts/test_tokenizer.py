from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.config.settings import PromptMode
from core.errors import InvalidRequest
from core.generation import ChatMessage, Generation
from core.prompts.chat_template import ChatTemplate
from core.prompts.tokenizer import PromptTokenizer

PROMPTS = ["Write a function", "héllo 🎉 世界", "  def f():\n\treturn 1\n", "<|im_end> {{ x }}"]


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

    chat = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]
    expected = AutoTokenizer.from_pretrained(str(model_dir)).apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False
    )

    messages = tuple(ChatMessage.model_validate(turn) for turn in chat)

    assert tokenizer.encode(Generation(messages=messages)) == expected


@pytest.mark.parametrize("stop", [["```"], ["###", "```python"], ["~~~"]])
def test_a_prompt_that_stops_at_a_fence_ends_with_one(
    tokenizer: PromptTokenizer, stop: list[str]
) -> None:
    generation = Generation.model_validate({"prompt": PROMPTS[0], "stop": stop})
    messages = [{"role": "user", "content": PROMPTS[0]}]
    chat = Generation.model_validate({"messages": messages, "stop": stop})
    raw = Generation.model_validate({"prompt": "x", "stop": stop, "promptMode": "raw"})

    fence = stop[-1].removesuffix("python")
    assert tokenizer.decode(tokenizer.encode(generation)).endswith(f"assistant\n{fence}")
    assert tokenizer.fence_of(generation) == fence
    assert tokenizer.text_of(chat) == tokenizer.text_of(Generation(prompt=PROMPTS[0]))
    assert tokenizer.fence_of(chat) is None is tokenizer.fence_of(raw)


def test_raw_mode_completes_the_prompt_as_it_is(model_dir: Path) -> None:
    raw = PromptTokenizer.load(str(model_dir), PromptMode.RAW)

    assert raw.decode(raw.encode(Generation(prompt="def f(x):"))) == "def f(x):"


@pytest.mark.parametrize("mode", PromptMode)
def test_a_request_may_choose_its_prompt_mode(
    model_dir: Path, tokenizer: PromptTokenizer, mode: PromptMode
) -> None:
    loaded = PromptTokenizer.load(str(model_dir), mode)
    raw = Generation(prompt="def f(x):", prompt_mode=PromptMode.RAW)
    chat = Generation(prompt="def f(x):", prompt_mode=PromptMode.CHAT)

    assert loaded.decode(loaded.encode(raw)) == "def f(x):"
    assert loaded.encode(chat) == tokenizer.encode(Generation(prompt="def f(x):"))


def test_a_template_gets_the_name_of_a_message_only_if_it_has_one(
    tokenizer: PromptTokenizer,
) -> None:
    template = "{% for m in messages %}{{ m.name is defined }}:{{ m.content }};{% endfor %}"
    naming = replace(tokenizer, template=ChatTemplate.of(template))

    messages = [
        ChatMessage(role="user", content="a", name="eve"),
        ChatMessage(role="user", content=""),
    ]
    assert naming.render(messages) == "True:a;False:;"


def test_decoding_returns_the_text(tokenizer: PromptTokenizer) -> None:
    text = "naïve = '🎉世界'  # ok\n"

    assert tokenizer.decode(tokenizer.tokenizer.encode(text).ids) == text


def test_a_template_that_refuses_is_the_callers_error(tokenizer: PromptTokenizer) -> None:
    refusing = replace(
        tokenizer, template=ChatTemplate.of("{{ raise_exception('no system turn') }}")
    )

    with pytest.raises(InvalidRequest, match="no system turn"):
        refusing.encode(Generation(prompt="x"))


def test_counts_of_many_prompts_equal_their_encoded_lengths(tokenizer: PromptTokenizer) -> None:
    generations = [
        Generation(prompt=prompt, prompt_mode=mode) for prompt in PROMPTS for mode in PromptMode
    ]

    texts = [tokenizer.text_of(generation) for generation in generations]
    counts = tokenizer.count(texts, most=8192)

    assert counts == [len(tokenizer.encode(generation)) for generation in generations]


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__['os'] }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ messages.append(1) }}",
]


@pytest.mark.parametrize("template", ESCAPES)
def test_a_models_template_can_access_only_the_messages(
    tokenizer: PromptTokenizer, template: str
) -> None:
    hostile = replace(tokenizer, template=ChatTemplate.of(template))

    with pytest.raises(InvalidRequest, match="refuses these messages"):
        hostile.render([ChatMessage(role="user", content="x")])


def test_a_customers_text_is_not_a_template(tokenizer: PromptTokenizer) -> None:
    text = "{{ 7 * 7 }}{% raw %}<|x|>{% set a = 1 %}"

    assert text in tokenizer.render([ChatMessage(role="user", content=text)])
