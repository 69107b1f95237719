"""Finds the chat template of a model and renders chats with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from core.errors import InvalidRequest, SettingsError
from core.generation import ChatMessage
from core.prompts.control_tokens import ControlTokens
from core.prompts.model_files import ModelFiles

#: Content that shows whether a template prints a message.
_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """Renders chats.

    Attributes:
        special_tokens: tokens that the template may write, by name, such as `eos_token`.
        control_tokens: tokens that callers must not write.
        has_parts: the template takes the content of a message only as a list of parts.
    """

    template: Template
    special_tokens: Mapping[str, str]
    control_tokens: ControlTokens
    has_parts: bool = False

    @classmethod
    def read(cls, files: ModelFiles, control_tokens: ControlTokens) -> ChatTemplate | None:
        """Return the chat template of a model, if its files have one.

        Raises:
            SettingsError: the template is empty, or is not valid Jinja.
        """
        config = files.read_json("tokenizer_config.json")
        source = _find_source(files, config)
        if source is None:
            return None
        return cls.of(source, _special_tokens(config), control_tokens)

    @classmethod
    def of(
        cls,
        source: str,
        special_tokens: Mapping[str, str] | None = None,
        control_tokens: ControlTokens | None = None,
    ) -> ChatTemplate:
        """Return the template with this source.

        Raises:
            SettingsError: the source is empty, or is not valid Jinja.
        """
        if not source.strip():
            raise SettingsError(["MODEL_PATH: the chat template is empty"])
        try:
            template = _environment().from_string(source)
        except TemplateSyntaxError as error:
            raise SettingsError(
                [f"MODEL_PATH: the chat template is wrong in line {error.lineno}: {error.message}"]
            ) from None
        plain = cls(template, special_tokens or {}, control_tokens or ControlTokens())
        in_parts = replace(plain, has_parts=True)
        return in_parts if in_parts._prints_content() > plain._prints_content() else plain

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the text of a chat, up to the beginning of the assistant's message.

        A mark breaks each control token that a caller wrote (`core/prompts/control_tokens.py`).

        Raises:
            InvalidRequest: the template rejects these messages, or renders no text.
        """
        try:
            text = self._render([self._with_parts(message) for message in self._disarm(messages)])
        except TemplateError as error:
            raise InvalidRequest(
                f"the model's chat template refuses these messages: {error}", param="messages"
            ) from None
        if not text:
            raise InvalidRequest(
                "the model's chat template makes no text of these messages", param="messages"
            )
        return text

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        return str(
            self.template.render(
                messages=messages, add_generation_prompt=True, **self.special_tokens
            )
        )

    def _with_parts(self, message: Mapping[str, str]) -> dict[str, Any]:
        if not self.has_parts:
            return dict(message)
        return {**message, "content": [{"type": "text", "text": message["content"]}]}

    def _disarm(self, messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
        copies = [message.model_dump(exclude_none=True) for message in messages]
        # A role is one of three known words.
        fields = [(copy, name) for copy in copies for name in copy if name != "role"]
        texts = self.control_tokens.disarm([copy[name] for copy, name in fields])
        for (copy, name), text in zip(fields, texts, strict=True):
            copy[name] = text
        return copies

    def _prints_content(self) -> bool:
        try:
            return _PROBE in self._render([self._with_parts({"role": "user", "content": _PROBE})])
        except Exception:
            # Broad on purpose: any template may fail with an unexpected message.
            return False


class _GenerationTag(Extension):
    """Accepts transformers' `{% generation %}` block, which only marks text for training."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare tags

    def parse(self, parser: Parser) -> Node | list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the environment for chat templates, as in transformers."""
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


def _find_source(files: ModelFiles, tokenizer_config: Mapping[str, Any]) -> str | None:
    """Return the source of the template, from the same files as transformers."""
    source = files.read_text("chat_template.jinja")
    if source is not None:
        return source
    legacy = files.read_json("chat_template.json", needed=False)
    return _source_of(legacy.get("chat_template")) or _source_of(
        tokenizer_config.get("chat_template")
    )


def _source_of(value: Any) -> str | None:
    """Return a single template, or the one with the name `default`."""
    if isinstance(value, list):
        named = [one for one in value if isinstance(one, dict)]
        value = {one.get("name"): one.get("template") for one in named}
    if isinstance(value, dict):
        value = value.get("default")
    return value if isinstance(value, str) and value else None


def _special_tokens(tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        value = tokenizer_config.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            tokens[name] = text
    return tokens
