from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from core.prompt import PromptTokenizer
from worker.delivery import Answer, Delivery
from worker.echo_engine import EchoEngine
from worker.engine import EngineRefused, EngineRequest, FinishReason, StepEvent


@pytest.fixture
def slow(tokenizer: PromptTokenizer) -> Iterator[Delivery]:
    delivery = Delivery(EchoEngine(tokens_per_second=500), tokenizer.decode)
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
) -> Answer:
    ids = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    answer = delivery.submit(EngineRequest(text[:20], ids, max_tokens, n=n), stop=stop)
    assert answer.wait(10)
    return answer


def test_an_answer_has_its_text_reason_and_tokens(
    slow: Delivery, tokenizer: PromptTokenizer
) -> None:
    text = "print('🎉 世界')"
    answer = echo(slow, tokenizer, text)

    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == (text, FinishReason.STOP)
    assert choice.tokens == len(tokenizer.tokenizer.encode(text, add_special_tokens=False).ids)
    assert answer.first_token_at is not None


def test_a_stop_string_over_several_tokens_ends_the_answer(
    slow: Delivery, tokenizer: PromptTokenizer
) -> None:
    answer = echo(slow, tokenizer, "one two three four five", stop=["o thr", "never"])

    choice = answer.choices[0]
    assert (choice.text, choice.finish_reason) == ("one tw", FinishReason.STOP)


def test_tokens_after_the_stop_string_are_not_counted(tokenizer: PromptTokenizer) -> None:
    delivery = Delivery(EchoEngine(), tokenizer.decode)  # the whole answer comes in one step
    delivery.start()
    answer = echo(delivery, tokenizer, "alpha beta gamma delta epsilon", stop=["gamma"])
    delivery.stop()

    counted = tokenizer.tokenizer.encode("alpha beta gamma", add_special_tokens=False).ids
    assert answer.completion_tokens == len(counted)


def test_length_is_the_reason_when_max_tokens_is_reached(
    slow: Delivery, tokenizer: PromptTokenizer
) -> None:
    answer = echo(slow, tokenizer, "a b c d e f g h", max_tokens=3)

    assert answer.choices[0].finish_reason is FinishReason.LENGTH
    assert answer.completion_tokens == 3


def test_all_choices_of_a_request_are_answered(slow: Delivery, tokenizer: PromptTokenizer) -> None:
    answer = echo(slow, tokenizer, "x = 1", n=3)

    assert [choice.text for choice in answer.choices] == ["x = 1"] * 3


def test_cancelling_keeps_the_text_so_far(tokenizer: PromptTokenizer) -> None:
    delivery = Delivery(EchoEngine(tokens_per_second=50), tokenizer.decode)
    delivery.start()
    ids = tokenizer.tokenizer.encode("word " * 500, add_special_tokens=False).ids
    answer = delivery.submit(EngineRequest("long", ids, 1000))
    while not answer.completion_tokens:
        assert not answer.wait(0.01)

    answer.cancel()

    assert answer.wait(5)
    delivery.stop()
    choice = answer.choices[0]
    assert choice.finish_reason is FinishReason.CANCELLED
    assert 0 < choice.tokens < len(ids)
    assert choice.text


def test_a_refused_request_leaves_nothing_behind(
    slow: Delivery, tokenizer: PromptTokenizer
) -> None:
    with pytest.raises(EngineRefused):
        slow.submit(EngineRequest("x", [], 5))

    assert slow._answers == {}


def test_one_answer_that_cannot_be_decoded_does_not_end_the_others(
    tokenizer: PromptTokenizer,
) -> None:
    def decode(ids: Sequence[int]) -> str:
        if 7 in ids:
            raise ValueError("poison")
        return tokenizer.decode(ids)

    delivery = Delivery(EchoEngine(tokens_per_second=200), decode)
    delivery.start()
    poisoned = delivery.submit(EngineRequest("poisoned", [5, 7, 9], 10))
    good = delivery.submit(EngineRequest("good", [5, 6, 9], 10))

    assert poisoned.wait(5)
    assert good.wait(5)
    delivery.stop()
    assert poisoned.error
    assert poisoned.choices[0].finish_reason is FinishReason.ERROR
    assert good.choices[0].text == tokenizer.decode([5, 6, 9])


def test_an_engines_error_ends_the_answer(tokenizer: PromptTokenizer) -> None:
    class Broken(EchoEngine):
        def _advance(self, echo):  # type: ignore[no-untyped-def]
            return StepEvent(echo.handle, 0, (), FinishReason.ERROR, error="out of order")

    delivery = Delivery(Broken(), tokenizer.decode)
    delivery.start()
    answer = delivery.submit(EngineRequest("x", [1, 2], 5))

    assert answer.wait(5)
    delivery.stop()
    assert answer.error == "out of order"
