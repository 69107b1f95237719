"""Prompts to token ids and back, with the model's own tokenizer and chat template, without torch.

The API counts and the worker encodes through this one class, so both always agree. All texts are
encoded by `encode_batch_fast`: unlike `encode` it releases the GIL, so that other threads go on.
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

#: A long prompt is counted up to this many characters for each token that may be, then twice...
CHARACTERS_PER_TOKEN = 4
#: A text that is cut may have this many tokens more at the cut than the whole text has there.
CUT_TOKENS = 64
CUT_SHARE = 16


@dataclass(frozen=True, slots=True)
class PromptText:
    """A prompt as the tokenizer is given it.

    Attributes:
        text: with a mark in each control token that a caller wrote into a chat.
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
        longest_token: characters that one token can stand for; `None` if there is no bound.
        head: what its chats begin with.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None
    mode: PromptMode
    context_length: int
    defaults: dict[str, Any]
    longest_token: int | None = None
    head: ChatPrefix = NO_PREFIX

    @classmethod
    def load(cls, model_path: str, mode: PromptMode = PromptMode.CHAT) -> PromptTokenizer:
        """Read a model's tokenizer from its directory, or from the hub by its name.

        Raises:
            SettingsError: a file is missing, or is not what it must be.
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
                "as it is",
                model_path,
            )
            return prompts
        return replace(prompts, head=prompts._find_head())

    def encode(self, generation: Generation) -> list[int]:
        """Return the token ids that the model is given for this generation.

        Raises:
            InvalidRequest: the chat template does not take these messages.
        """
        prompt = self.text_of(generation)
        if prompt.is_templated and MARK not in prompt.text:
            return self.head.encode(self.tokenizer, prompt.text)
        return [id for encoding in self._encode(prompt) for id in encoding.ids]

    def text_of(self, generation: Generation) -> PromptText:
        """Return the text that becomes the token ids of this generation.

        Raises:
            InvalidRequest: the chat template does not take these messages.
        """
        if generation.messages is not None:
            return PromptText(self.render(generation.messages), is_templated=True)
        prompt = generation.prompt or ""
        if self._makes_chat_of(generation):
            turns = [ChatMessage(role="user", content=prompt)]
            begun = self.fence_of(generation) or ""
            return PromptText(self.render(turns) + begun, is_templated=True)
        return PromptText(prompt, is_templated=False)

    def fence_of(self, generation: Generation) -> str | None:
        """Return the fence that the answer begins behind, if the prompt asks for code.

        A chat model opens its code with a fence, often after a sentence: if that is a stop string,
        an answer would end before its code.
        """
        return find_fence(generation.stop) if self._makes_chat_of(generation) else None

    def _makes_chat_of(self, generation: Generation) -> bool:
        """Say whether the model is given a prompt as the one turn of a chat."""
        mode = generation.prompt_mode or self.mode
        has_prompt = generation.prompt is not None
        return has_prompt and mode is PromptMode.CHAT and self.template is not None

    def count(self, prompts: Sequence[PromptText], *, most: int) -> list[int | None]:
        """Return how many tokens each prompt has; `None` if it surely has more than `most`.

        Several threads count short prompts. Each long one costs what `most` tokens cost, and not
        what its length costs.
        """
        counts: list[int | None] = [None] * len(prompts)
        for is_templated in (True, False):
            places = [
                place
                for place, one in enumerate(prompts)
                if one.is_templated is is_templated
                and MARK not in one.text
                and not self._is_long(one.text, most)
            ]
            encodings = self.tokenizer.encode_batch_fast(
                [prompts[place].text for place in places], add_special_tokens=not is_templated
            )
            for place, encoding in zip(places, encodings, strict=True):
                counts[place] = len(encoding)
        for place, one in enumerate(prompts):
            if MARK in one.text or self._is_long(one.text, most):
                counts[place] = self.count_one(one, most=most)
        return counts

    def count_one(self, prompt: PromptText, *, most: int) -> int | None:
        """Return how many tokens a prompt has; `None` if it surely has more than `most`."""
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
        """Say whether a text of this length can have so few tokens."""
        return self.longest_token is None or characters <= self.longest_token * most

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """Return the text of a chat, ending where the assistant's answer begins.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses these messages.
        """
        if self.template is None:
            raise InvalidRequest("this model takes no `messages`", param="messages")
        return self.template.render(messages)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of generated ids, special tokens left out."""
        return self.tokenizer.decode(list(ids), skip_special_tokens=True)

    def _is_long(self, text: str, most: int) -> bool:
        return len(text) > CHARACTERS_PER_TOKEN * most

    def _length(self, prompt: PromptText) -> int:
        return sum(map(len, self._encode(prompt)))

    def _encode(self, prompt: PromptText) -> list[Encoding]:
        """Encode a prompt; the parts of a broken control token have no token in common."""
        add_special_tokens = not prompt.is_templated
        return [
            self.tokenizer.encode_batch_fast([part], add_special_tokens=add_special_tokens)[0]
            for part in prompt.text.split(MARK)
        ]

    def _find_head(self) -> ChatPrefix:
        def render(prompt: str) -> str:
            return self.render([ChatMessage(role="user", content=prompt)])

        try:
            return ChatPrefix.find(self.tokenizer, render)
        except InvalidRequest:
            return NO_PREFIX  # the template takes no such chat


def _context_length(files: ModelFiles) -> int:
    """Return the tokens of a model's context: where models read more than text, the text's part."""
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
    except Exception as error:  # the library raises no class of its own
        raise files.fault("tokenizer.json", f"it is no tokenizer: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
