from __future__ import annotations

from core.prompt import PromptTokenizer
from worker.delivery import Answer, Choice
from worker.engine import FinishReason, TokenLogprob
from worker.outcome import outcome_of
from worker.text import IncrementalText, StopScanner


def answer(tokenizer: PromptTokenizer, *reasons: FinishReason) -> Answer:
    choices = [
        Choice(IncrementalText(tokenizer.decode), StopScanner(()), "x", 2, finish_reason=reason)
        for reason in reasons
    ]
    return Answer(choices)


def test_an_answer_that_was_cancelled_keeps_text_and_tokens(tokenizer: PromptTokenizer) -> None:
    cancelled = answer(tokenizer, FinishReason.STOP, FinishReason.CANCELLED)

    outcome = outcome_of(cancelled, 5, tokenizer.decode)

    assert (outcome.state, outcome.prompt_tokens, outcome.completion_tokens) == ("cancelled", 5, 4)
    assert outcome.choices is not None
    assert outcome.choices[1] == {"text": "x", "index": 1, "finish_reason": "cancelled"}


def test_a_failed_answer_says_nothing_of_the_engines_inside(tokenizer: PromptTokenizer) -> None:
    failed = answer(tokenizer, FinishReason.ERROR)
    failed.error = "CUDA error: device-side assert"

    outcome = outcome_of(failed, 5, tokenizer.decode)

    assert outcome.state == "failed"
    assert outcome.choices is None
    assert "CUDA" not in str(outcome.error)


def test_logprobs_stand_beside_the_text_token_by_token(tokenizer: PromptTokenizer) -> None:
    first, second = tokenizer.tokenizer.encode("hello world", add_special_tokens=False).ids
    told = answer(tokenizer, FinishReason.STOP)
    told.choices[0].logprobs = [
        (first, TokenLogprob(-0.5, ((first, -0.5), (second, -1.5)))),
        (second, TokenLogprob(-0.25, ((second, -0.25),))),
    ]

    choices = outcome_of(told, 5, tokenizer.decode).choices

    assert choices is not None
    assert choices[0]["logprobs"] == {
        "tokens": ["hello", " world"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"hello": -0.5, " world": -1.5}, {" world": -0.25}],
    }
