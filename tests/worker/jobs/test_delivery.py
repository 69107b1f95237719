"""Delivery turns an engine's tokens into the texts of generations, and ends each at its reason."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from core.events.job_events import TextPiece
from core.prompts.tokenizer import PromptTokenizer
from worker.engine.echo import EchoEngine
from worker.engine.protocol import (
    EngineRefused,
    EngineRequest,
    FinishReason,
    Sampling,
    StepEvent,
    TokenLogprob,
)
from worker.jobs.delivery import Delivery, RunningGeneration
from worker.text.token_bytes import TokenBytes


@pytest.fixture
def slow_delivery(token_bytes: TokenBytes) -> Iterator[Delivery]:
    delivery = Delivery(EchoEngine(tokens_per_second=500), token_bytes)
    delivery.start()
    yield delivery
    delivery.stop()


def echo(
    delivery: Delivery,
    tokenizer: PromptTokenizer,
    text: str,
    *,
    stop: Sequence[str] = (),
    n: int = 1,
    max_tokens: int = 200,
    min_tokens: int = 0,
    fence: str | None = None,
) -> RunningGeneration:
    """Generate a text with an engine that repeats its prompt, and wait for the end."""
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    request = EngineRequest(text[:20], ids, max_tokens, Sampling(min_tokens=min_tokens), n=n)
    generation = delivery.submit(request, stop=stop, fence=fence)
    assert generation.wait(10)
    return generation


def test_a_generation_has_its_text_finish_reason_and_tokens(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    text = "print('🎉 世界')"
    generation = echo(slow_delivery, tokenizer, text)

    choice = generation.choices[0]
    assert (choice.text, choice.finish_reason) == (text, FinishReason.STOP)
    assert choice.tokens == len(tokenizer.tokenizer.encode(text, add_special_tokens=False).ids)
    assert generation.first_token is not None


def test_a_stop_string_over_several_tokens_ends_the_text(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    generation = echo(slow_delivery, tokenizer, "one two three four five", stop=["o thr", "never"])

    choice = generation.choices[0]
    assert (choice.text, choice.finish_reason) == ("one tw", FinishReason.STOP)


def test_tokens_after_the_stop_string_are_not_counted(tokenizer: PromptTokenizer) -> None:
    """An engine without a pause delivers the whole text in one step."""
    delivery = Delivery(EchoEngine(), TokenBytes(tokenizer.tokenizer))
    delivery.start()
    generation = echo(delivery, tokenizer, "alpha beta gamma delta epsilon", stop=["gamma"])
    delivery.stop()

    counted = tokenizer.tokenizer.encode("alpha beta gamma", add_special_tokens=False).ids
    assert generation.completion_tokens == len(counted)


def test_length_is_the_reason_when_max_tokens_is_reached(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    generation = echo(slow_delivery, tokenizer, "a b c d e f g h", max_tokens=3)

    assert generation.choices[0].finish_reason is FinishReason.LENGTH
    assert generation.completion_tokens == 3


def test_all_choices_of_a_request_are_generated(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    generation = echo(slow_delivery, tokenizer, "x = 1", n=3)

    assert [choice.text for choice in generation.choices] == ["x = 1"] * 3


def test_cancelling_keeps_the_text_so_far(tokenizer: PromptTokenizer) -> None:
    delivery = Delivery(EchoEngine(tokens_per_second=50), TokenBytes(tokenizer.tokenizer))
    delivery.start()
    ids = tokenizer.tokenizer.encode("word " * 500, add_special_tokens=False).ids
    generation = delivery.submit(EngineRequest("long", ids, 1000))
    while not generation.completion_tokens:
        assert not generation.wait(0.01)

    generation.cancel()

    assert generation.wait(5)
    delivery.stop()
    choice = generation.choices[0]
    assert choice.finish_reason is FinishReason.CANCELLED
    assert 0 < choice.tokens < len(ids)
    assert choice.text


def test_a_refused_request_leaves_nothing_behind(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    with pytest.raises(EngineRefused):
        slow_delivery.submit(EngineRequest("x", [], 5))

    assert slow_delivery._running == {}


def test_a_generation_that_cannot_be_decoded_does_not_end_the_others(
    tokenizer: PromptTokenizer,
) -> None:
    class UndecodableToken(TokenBytes):
        def __getitem__(self, token_id: int) -> bytes:
            if token_id == 7:
                raise ValueError("no bytes")
            return super().__getitem__(token_id)

    delivery = Delivery(EchoEngine(tokens_per_second=200), UndecodableToken(tokenizer.tokenizer))
    delivery.start()
    bad = delivery.submit(EngineRequest("bad", [5, 7, 9], 10))
    good = delivery.submit(EngineRequest("good", [5, 6, 9], 10))

    assert bad.wait(5)
    assert good.wait(5)
    delivery.stop()
    assert bad.error
    assert bad.choices[0].finish_reason is FinishReason.ERROR
    assert good.choices[0].text == tokenizer.decode([5, 6, 9])


def test_an_error_of_the_engine_ends_the_generation(tokenizer: PromptTokenizer) -> None:
    class BrokenEngine(EchoEngine):
        def _advance(self, echo):  # type: ignore[no-untyped-def]
            return StepEvent(echo.handle, 0, (), FinishReason.ERROR, error="out of order")

    delivery = Delivery(BrokenEngine(), TokenBytes(tokenizer.tokenizer))
    delivery.start()
    generation = delivery.submit(EngineRequest("x", [1, 2], 5))

    assert generation.wait(5)
    delivery.stop()
    assert generation.error == "out of order"


def test_a_stop_string_within_min_tokens_is_ignored(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    generation = echo(slow_delivery, tokenizer, "a b c a b c a b c", stop=["b"], min_tokens=3)

    choice = generation.choices[0]
    assert (choice.text, choice.finish_reason) == ("a b c a ", FinishReason.STOP)


def test_a_completion_that_starts_within_a_fence_is_the_fenced_code(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    text = "python\nprint(1)\n```\nIt prints 1."

    generation = echo(slow_delivery, tokenizer, text, stop=["###", "\n```"], fence="```")

    choice = generation.choices[0]
    assert (choice.text, choice.finish_reason) == ("print(1)", FinishReason.STOP)
    counted = tokenizer.tokenizer.encode(text[: text.index("```") + 3], add_special_tokens=False)
    assert choice.tokens == len(counted.ids)


def test_without_the_fence_option_a_fence_is_a_plain_stop_string(
    slow_delivery: Delivery, tokenizer: PromptTokenizer
) -> None:
    generation = echo(
        slow_delivery, tokenizer, "Here it is:\n```python\nprint(1)\n```", stop=["```"]
    )

    assert generation.choices[0].text == "Here it is:\n"


@pytest.mark.alone
@pytest.mark.parametrize("hard", ["\ufffd", "<|im_end|>"])
def test_no_text_delays_all_other_generations(tokenizer: PromptTokenizer, hard: str) -> None:
    """One thread decodes all tokens, here those of eight choices with 4,000 tokens each."""

    def seconds(text: str) -> float:
        ids = tokenizer.tokenizer.encode(text * 4000, add_special_tokens=False).ids[:4000]
        request = EngineRequest(text, ids, 4000, n=8)
        began_at = time.perf_counter()
        assert delivery.submit(request).wait(30)
        return time.perf_counter() - began_at

    delivery = Delivery(EchoEngine(), TokenBytes(tokenizer.tokenizer))
    delivery.start()
    try:
        easy_seconds, hard_seconds = (min(seconds(text) for _ in range(3)) for text in ("é", hard))
    finally:
        delivery.stop()

    assert hard_seconds < 2 * easy_seconds


def test_log_probabilities_are_published_with_the_text_of_their_tokens(
    tokenizer: PromptTokenizer,
) -> None:
    """Tokens are withheld together with a text that may start a stop string."""
    published: list[TextPiece] = []

    class EngineWithLogprobs(EchoEngine):
        def _advance(self, echo):  # type: ignore[no-untyped-def]
            event = super()._advance(echo)
            return replace(event, logprobs=tuple(TokenLogprob(-1.0) for _ in event.token_ids))

    delivery = Delivery(
        EngineWithLogprobs(tokens_per_second=500),
        TokenBytes(tokenizer.tokenizer),
        publish=published.extend,
    )
    delivery.start()
    ids = [tokenizer.tokenizer.token_to_id(letter) for letter in "ab#ab##c"]
    request = EngineRequest("x", ids, 20, Sampling(logprobs=0))
    generation = delivery.submit(request, stop=["ab##"], is_followed=True)
    assert generation.wait(5)
    delivery.stop()

    text, tokens = "", []
    for piece in published:
        assert (piece.offset, piece.token_offset) == (len(text), len(tokens))
        text += piece.text
        tokens += piece.logprobs["tokens"] if piece.logprobs else []
        if piece is not published[-1]:
            assert text.startswith("".join(tokens[:-1]))
    assert (text, "".join(tokens)) == ("ab#", "ab#ab##")
