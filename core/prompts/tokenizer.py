"""Converts prompts to token ids and back, with the model's tokenizer and chat template.

The API counts and the worker encodes with this class, so both always agree. It needs no torch. All
texts are encoded by `encode_batch_fast`: unlike `encode` it releases the GIL for other threads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenizers import Encoding, Tokenizer

from core.config.settings import PromptMode
from core.errors import InvalidRequest
from core.generation import ChatMessage, Generation
from core.prompts.chat_prefix import NO_PREFIX, ChatPrefix
from core.prompts.chat_template import ChatTemplate
from core.prompts.code_fence import find_fence
from core.prompts.control_tokens import MARK, ControlTokens
from core.prompts.model_files import ModelFiles
from core.prompts.token_length import longest_token

_log = logging.getLogger(__name__)

#: A long prompt is counted up to this many characters per allowed token, then twice as many…
CHARACTERS_PER_TOKEN = 4
#: A cut text may have this many more tokens at the cut than the whole text.
CUT_TOKENS = 64
CUT_SHARE = 16


@dataclass(frozen=True, slots=True)
class PromptText:
    """The text of a prompt for the tokenizer.

    Attributes:
        text: contains a mark in each control token that a caller wrote into a chat.
        is_templated: the chat template has added the special tokens.
    """

    text: str
    is_templated: bool


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    """The tokenizer and chat template of one model.

    Attributes:
        context_length: the most tokens of prompt and completion together.
        defaults: the model's generation defaults, with the names of its generation_config.json.
        longest_token: the most characters of one token; `None` if there is no bound.
        prefix: the common beginning of its chats.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    mode: PromptMode
    context_length: int
    defaults: dict[str, Any]
    longest_token: int | None = None
    prefix: ChatPrefix = NO_PREFIX

    @classmethod
    def load(cls, model_path: str, mode: PromptMode = PromptMode.CHAT) -> PromptTokenizer:
        """Read a model's tokenizer from its directory, or from the hub by its name.

        Raises:
            SettingsError: a file is missing or invalid.
            OSError: a file cannot be fetched.
        """
        files = ModelFiles(model_path)
        context_length = _context_length(files)
        tokenizer = _read_tokenizer(files)
        prompts = cls(
            tokenizer=tokenizer,
            template=ChatTemplate.read(files, ControlTokens.of(tokenizer)),
            mode=mode,
            context_length=context_length,
            defaults=files.read_json("generation_config.json", needed=False),
            longest_token=longest_token(tokenizer),
        )
        if prompts.template is None:
            _log.warning(
                "%s has no chat template: `messages` are refused, and every `prompt` is completed "
                "without a template",
                model_path,
            )
            return prompts
        return replace(prompts, prefix=prompts._find_prefix())

    def encode(self, generation: Generation) -> list[int]:
        """Return the token ids of the prompt of a generation.

        Raises:
            InvalidRequest: the chat template rejects these messages.
        """
        prompt = self.text_of(generation)
        if prompt.is_templated and MARK not in prompt.text:
            return self.prefix.encode(self.tokenizer, prompt.text)
        return [id for encoding in self._encode(prompt) for id in encoding.ids]

    def text_of(self, generation: Generation) -> PromptText:
        """Return the text whose token ids are the prompt of a generation.

        Raises:
            InvalidRequest: the chat template rejects these messages.
        """
        if generation.messages is not None:
            return PromptText(self.render(generation.messages), is_templated=True)
        prompt = generation.prompt or ""
        if self._is_chat(generation):
            messages = [ChatMessage(role="user", content=prompt)]
            fence = self.fence_of(generation) or ""
            return PromptText(self.render(messages) + fence, is_templated=True)
        return PromptText(prompt, is_templated=False)

    def fence_of(self, generation: Generation) -> str | None:
        """Return the fence that is added to the prompt, if a stop string is a fence.

        A chat model opens its code with a fence, often after a sentence. If the fence is a stop
        string, the completion would end before the code.
        """
        return find_fence(generation.stop) if self._is_chat(generation) else None

    def _is_chat(self, generation: Generation) -> bool:
        """Return whether the prompt becomes the only message of a chat."""
        mode = generation.prompt_mode or self.mode
        has_prompt = generation.prompt is not None
        return has_prompt and mode is PromptMode.CHAT and self.template is not None

    def count(self, prompts: Sequence[PromptText], *, most: int) -> list[int | None]:
        """Return the number of tokens of each prompt; `None` if it certainly exceeds `most`.

        Several threads count short prompts. A long prompt costs as much as `most` tokens, however
        long it is.
        """
        counts: list[int | None] = [None] * len(prompts)
        for is_templated in (True, False):
            indexes = [
                index
                for index, one in enumerate(prompts)
                if one.is_templated is is_templated
                and MARK not in one.text
                and not self._is_long(one.text, most)
            ]
            encodings = self.tokenizer.encode_batch_fast(
                [prompts[index].text for index in indexes], add_special_tokens=not is_templated
            )
            for index, encoding in zip(indexes, encodings, strict=True):
                counts[index] = len(encoding)
        for index, one in enumerate(prompts):
            if MARK in one.text or self._is_long(one.text, most):
                counts[index] = self.count_one(one, most=most)
        return counts

    def count_one(self, prompt: PromptText, *, most: int) -> int | None:
        """Return the number of tokens of a prompt; `None` if it certainly exceeds `most`."""
        if not self.may_fit(len(prompt.text), most):
            return None
        surely_more = most + most // CUT_SHARE + CUT_TOKENS
        size = CHARACTERS_PER_TOKEN * most
        while size < len(prompt.text):
            if self._length(replace(prompt, text=prompt.text[:size])) > surely_more:
                return None
            size *= 2
        return self._length(prompt)

    def may_fit(self, characters: int, most: int) -> bool:
        """Return whether a text of this length can have at most `most` tokens."""
        return self.longest_token is None or characters <= self.longest_token * most

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the text of a chat, up to the beginning of the assistant's message.

        Raises:
            InvalidRequest: the model has no chat template, or it rejects these messages.
        """
        if self.template is None:
            raise InvalidRequest("this model takes no `messages`", param="messages")
        return self.template.render(messages)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids without special tokens."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _is_long(self, text: str, most: int) -> bool:
        return len(text) > CHARACTERS_PER_TOKEN * most

    def _length(self, prompt: PromptText) -> int:
        return sum(map(len, self._encode(prompt)))

    def _encode(self, prompt: PromptText) -> list[Encoding]:
        """Encode a prompt, each part of a broken control token separately."""
        add_special_tokens = not prompt.is_templated
        return [
            self.tokenizer.encode_batch_fast([part], add_special_tokens=add_special_tokens)[0]
            for part in prompt.text.split(MARK)
        ]

    def _find_prefix(self) -> ChatPrefix:
        def render(prompt: str) -> str:
            return self.render([ChatMessage(role="user", content=prompt)])

        try:
            return ChatPrefix.find(self.tokenizer, render)
        except InvalidRequest:
            return NO_PREFIX  # the template rejects such a chat


def _context_length(files: ModelFiles) -> int:
    """Return the context length of a model; of multimodal models, that of the text part."""
    config = files.read_json("config.json")
    name = "max_position_embeddings"
    parts = [config, config.get("text_config"), config.get("llm_config")]
    for part in parts:
        value = part.get(name) if isinstance(part, dict) else None
        if isinstance(value, int) and value > 0:
            return value
    raise files.fault("config.json", f"it says no {name}, the tokens of the model's context")


def _read_tokenizer(files: ModelFiles) -> Tokenizer:
    text = files.read_text("tokenizer.json")
    if text is None:
        raise files.fault("tokenizer.json", "there is no such file")
    try:
        tokenizer = Tokenizer.from_str(text)
    except Exception as error:  # the library raises a plain `Exception`
        raise files.fault("tokenizer.json", f"it is no tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
