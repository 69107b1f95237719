"""Prompts to token ids and back, with the model's own tokenizer and chat template, without torch.

The API counts and the worker encodes through this one class, so both always agree.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from jinja2 import TemplateError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from core.chat_head import NO_HEAD, ChatHead
from core.errors import InvalidRequest
from core.generation import ChatMessage, Generation
from core.settings import PromptMode


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as the tokenizer is given it.

    Attributes:
        is_templated: the chat template has written the special tokens itself.
    """

    text: str
    is_templated: bool


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    """The tokenizer and chat template of one model.

    Attributes:
        context_length: tokens that prompt and answer may have together.
        defaults: the model's own generation defaults, as its generation_config.json names them.
        head: what its chats begin with.
    """

    tokenizer: Tokenizer
    template: Any
    special_tokens: dict[str, str]
    mode: PromptMode
    context_length: int
    defaults: dict[str, Any]
    head: ChatHead = NO_HEAD

    @classmethod
    def load(cls, model_path: str, mode: PromptMode = PromptMode.CHAT) -> PromptTokenizer:
        """Read a model's tokenizer from its directory, or from the hub by its name.

        Raises:
            OSError: a needed file is missing or cannot be fetched.
        """
        config = _read_json(model_path, "config.json")
        tokenizer_config = _read_json(model_path, "tokenizer_config.json")
        generation_config = _read_json(model_path, "generation_config.json", needed=False)
        template = _read_template(model_path, tokenizer_config)
        tokenizer = Tokenizer.from_file(str(_file(model_path, "tokenizer.json")))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        prompts = cls(
            tokenizer=tokenizer,
            template=_environment().from_string(template) if template else None,
            special_tokens=_special_tokens(tokenizer_config),
            mode=mode,
            context_length=int(config["max_position_embeddings"]),
            defaults=generation_config,
        )
        if prompts.template is None:
            return prompts
        return replace(prompts, head=prompts._find_head())

    def encode(self, generation: Generation) -> list[int]:
        """Return the token ids that the model is given for this generation.

        Raises:
            InvalidRequest: the chat template does not take these messages.
        """
        prompt = self.text_of(generation)
        if prompt.is_templated:  # the template writes the special tokens itself
            return self.head.encode(self.tokenizer, prompt.text)
        return list(self.tokenizer.encode(prompt.text).ids)

    def text_of(self, generation: Generation) -> PromptText:
        """Return the text that becomes the token ids of this generation.

        Raises:
            InvalidRequest: the chat template does not take these messages.
        """
        if generation.messages is not None:
            return PromptText(self.render(generation.messages), is_templated=True)
        prompt = generation.prompt or ""
        if self.makes_chat_of(generation):
            turns = [ChatMessage(role="user", content=prompt)]
            return PromptText(self.render(turns), is_templated=True)
        return PromptText(prompt, is_templated=False)

    def makes_chat_of(self, generation: Generation) -> bool:
        """Say whether the model is given a prompt as the one turn of a chat."""
        mode = generation.prompt_mode or self.mode
        has_prompt = generation.prompt is not None
        return has_prompt and mode is PromptMode.CHAT and self.template is not None

    def count(self, prompts: Sequence[PromptText]) -> list[int]:
        """Return how many tokens each prompt has; several threads count many of them."""
        counts = [0] * len(prompts)
        for is_templated in (True, False):
            places = [i for i, one in enumerate(prompts) if one.is_templated is is_templated]
            encodings = self.tokenizer.encode_batch_fast(
                [prompts[i].text for i in places], add_special_tokens=not is_templated
            )
            for i, encoding in zip(places, encodings, strict=True):
                counts[i] = len(encoding)
        return counts

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the text of a chat, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses these messages.
        """
        if self.template is None:
            raise InvalidRequest("this model takes no `messages`", param="messages")
        try:
            text = self.template.render(
                messages=[message.model_dump(exclude_none=True) for message in messages],
                add_generation_prompt=True,
                **self.special_tokens,
            )
        except TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from None
        return str(text)

    def _find_head(self) -> ChatHead:
        def render(prompt: str) -> str:
            return self.render([ChatMessage(role="user", content=prompt)])

        try:
            return ChatHead.find(self.tokenizer, render)
        except InvalidRequest:
            return NO_HEAD  # the template takes no such chat

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)


class _GenerationTag(Extension):
    """Accepts transformers' `{% generation %}` block, which marks text for training only."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare tags

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment that chat templates are written for, as transformers makes it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, LoopControls]
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def strftime_now(form: str) -> str:
        return datetime.now().strftime(form)

    def tojson(value: Any, indent: int | None = None) -> str:
        return json.dumps(value, ensure_ascii=False, indent=indent)

    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = strftime_now
    environment.filters["tojson"] = tojson
    return environment


def _file(model_path: str, name: str) -> Path:
    if Path(model_path).is_dir():
        return Path(model_path) / name
    return Path(hf_hub_download(model_path, name))


def _read_json(model_path: str, name: str, *, needed: bool = True) -> dict[str, Any]:
    try:
        content = json.loads(_file(model_path, name).read_text())
    except (FileNotFoundError, EntryNotFoundError):
        if needed:
            raise
        return {}
    return dict(content)


def _read_template(model_path: str, tokenizer_config: dict[str, Any]) -> str | None:
    try:
        return _file(model_path, "chat_template.jinja").read_text()
    except (FileNotFoundError, EntryNotFoundError):
        template = tokenizer_config.get("chat_template")
        return template if isinstance(template, str) else None


def _special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = tokenizer_config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens
