"""The outcome of a generation: its state, choices, usage and log probabilities."""

from __future__ import annotations

from collections.abc import Sequence

from worker.engine.protocol import FinishReason, TokenLogprob
from worker.jobs.delivery import RunningGeneration
from worker.jobs.outcome import make_outcome
from worker.text.choice import RunningChoice
from worker.text.incremental_text import IncrementalText
from worker.text.logprobs import IMPOSSIBLE, ChoiceLogprobs
from worker.text.stop_strings import StopScanner, StopStrings
from worker.text.token_bytes import TokenBytes

#: Tokens of the small model: "hello" and " world".
HELLO, WORLD = 28120, 905


def ended_generation(token_bytes: TokenBytes, *reasons: FinishReason) -> RunningGeneration:
    return RunningGeneration([ended_choice(token_bytes, reason) for reason in reasons])


def ended_choice(
    token_bytes: TokenBytes, reason: FinishReason, tokens: Sequence[tuple[int, TokenLogprob]] = ()
) -> RunningChoice:
    """Return an ended choice with the given tokens, by default "hello world"."""
    choice = RunningChoice(
        decoded=IncrementalText(token_bytes),
        scanner=StopScanner(StopStrings(())),
        logprobs=ChoiceLogprobs(token_bytes) if tokens else None,
    )
    for token_id, logprob in tokens or [(HELLO, None), (WORLD, None)]:
        choice.add(token_id, logprob)
    choice.end(reason)
    return choice


def test_a_cancelled_generation_keeps_text_and_tokens(token_bytes: TokenBytes) -> None:
    cancelled = ended_generation(token_bytes, FinishReason.STOP, FinishReason.CANCELLED)

    outcome = make_outcome(cancelled, 5)

    assert (outcome.state, outcome.prompt_tokens, outcome.completion_tokens) == ("cancelled", 5, 4)
    assert outcome.choices is not None
    assert outcome.choices[1] == {"text": "hello world", "index": 1, "finish_reason": "cancelled"}


def test_a_failed_generation_does_not_expose_the_engines_error(token_bytes: TokenBytes) -> None:
    failed = ended_generation(token_bytes, FinishReason.ERROR)
    failed.error = "CUDA error: device-side assert"

    outcome = make_outcome(failed, 5)

    assert outcome.state == "failed"
    assert outcome.choices is None
    assert "CUDA" not in str(outcome.error)


def test_logprobs_have_one_entry_for_each_token(token_bytes: TokenBytes) -> None:
    tokens = [
        (HELLO, TokenLogprob(-0.5, ((HELLO, -0.5), (WORLD, -1.5)))),
        (WORLD, TokenLogprob(-0.25, ((WORLD, -0.25),))),
    ]
    generation = RunningGeneration([ended_choice(token_bytes, FinishReason.STOP, tokens)])

    choices = make_outcome(generation, 5).choices

    assert choices is not None
    assert choices[0]["logprobs"] == {
        "tokens": ["hello", " world"],
        "token_logprobs": [-0.5, -0.25],
        "top_logprobs": [{"hello": -0.5, " world": -1.5}, {" world": -0.25}],
    }


def test_names_distinguish_tokens_that_are_parts_of_characters(token_bytes: TokenBytes) -> None:
    """Their texts are all the replacement character: with texts, one entry would remain."""
    parts = [one for one in range(49152) if token_bytes.name(one).startswith("bytes:")][:20]
    top = tuple((token_id, -float(rank)) for rank, token_id in enumerate(parts))
    tokens = [(parts[3], TokenLogprob(-3.0, top))]
    generation = RunningGeneration([ended_choice(token_bytes, FinishReason.STOP, tokens)])

    choices = make_outcome(generation, 5).choices

    assert choices is not None
    logprobs = choices[0]["logprobs"]
    best = logprobs["top_logprobs"][0]
    assert len(best) == 20
    assert best[logprobs["tokens"][0]] == logprobs["token_logprobs"][0] == -3.0
    assert max(best.values()) == 0.0


def test_an_impossible_token_has_a_finite_log_probability(token_bytes: TokenBytes) -> None:
    """JSON has no infinity."""
    tokens = [(HELLO, TokenLogprob(-0.5, ((HELLO, -0.5), (WORLD, float("-inf")))))]
    generation = RunningGeneration([ended_choice(token_bytes, FinishReason.STOP, tokens)])

    choices = make_outcome(generation, 5).choices

    assert choices is not None
    assert choices[0]["logprobs"]["top_logprobs"] == [{"hello": -0.5, " world": IMPOSSIBLE}]
