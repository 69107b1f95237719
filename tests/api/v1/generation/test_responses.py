"""Jobs as responses of OpenAI's API."""

from __future__ import annotations

from typing import Any

import pytest

from api.generation.text_follower import Delta
from api.v1.generation.chat_response import ChatResponse
from api.v1.generation.completion_response import CompletionResponse
from api.v1.generation.response import OpenAIResponse
from core.errors import Conflict
from core.ids import new_id
from models.database.base import utc_now
from models.jobs.job import Job, JobState

LOGPROBS = {
    "tokens": ["de", "f", "\ufffd"],
    "token_logprobs": [-0.1, -3.0, -0.2],
    # The fields are out of order: PostgreSQL reorders the fields of an object.
    "top_logprobs": [{"x": -2.0, "de": -0.1}, {"y": -0.5}, {"\ufffd": -0.2}],
}


def job(*choices: dict[str, Any], state: JobState = JobState.SUCCEEDED) -> Job:
    return Job(
        id=new_id(),
        model="m",
        state=state,
        created_at=utc_now(),
        choices=[{"index": i, "finish_reason": "stop", **c} for i, c in enumerate(choices)],
        prompt_tokens=5,
        completion_tokens=2,
        cached_tokens=4,
    )


def response_of(
    kind: type[OpenAIResponse], of: Job, *, logprobs: bool = True, usage: bool = False
) -> OpenAIResponse:
    return kind(of, has_logprobs=logprobs, has_usage_chunk=usage)


def test_a_completion_lists_the_drawn_token_among_the_best_and_the_offset_of_each() -> None:
    made = job({"text": "def?", "logprobs": LOGPROBS})

    serialized = response_of(CompletionResponse, made).to_object(made)["choices"][0]["logprobs"]

    assert serialized == {
        "tokens": ["de", "f", "\ufffd"],
        "token_logprobs": [-0.1, -3.0, -0.2],
        "top_logprobs": [{"x": -2.0, "de": -0.1}, {"y": -0.5, "f": -3.0}, {"\ufffd": -0.2}],
        "text_offset": [0, 2, 3],
    }


def test_offsets_continue_over_the_chunks_of_each_choice() -> None:
    made = job({"text": "ab"}, {"text": "ab"})
    response = response_of(CompletionResponse, made)
    said = {"tokens": ["ab"], "token_logprobs": [0.0], "top_logprobs": [{}]}

    offsets = [
        response.delta_chunks(Delta(index, "ab", said, ""))[0]["choices"][0]["logprobs"][
            "text_offset"
        ]
        for index in (0, 1, 0, 0)
    ]

    assert offsets == [[0], [0], [2], [4]]


def test_a_chat_lists_the_best_tokens_in_order_with_their_bytes() -> None:
    made = job({"text": "def?", "logprobs": LOGPROBS})

    content = response_of(ChatResponse, made).to_object(made)["choices"][0]["logprobs"]["content"]

    assert content[0] == {
        "token": "de",
        "logprob": -0.1,
        "bytes": [100, 101],
        "top_logprobs": [
            {"token": "de", "logprob": -0.1, "bytes": [100, 101]},
            {"token": "x", "logprob": -2.0, "bytes": [120]},
        ],
    }
    assert content[2]["bytes"] is None  # a part of a character, whose bytes are unknown


#: "🎉" as two tokens, a special token, half of a "🎉", and "a".
PARTS = {
    "tokens": [
        "bytes:\\xf0\\x9f",
        "bytes:\\x8e\\x89",
        "special:<|im_end|>",
        "bytes:\\xf0\\x9f",
        "a",
    ],
    "token_logprobs": [-0.1, -0.2, -0.3, -0.4, -0.5],
    "top_logprobs": [
        {"bytes:\\xf0": -7.0, "bytes:\\xf0\\x9f": -0.1, "bytes:\\xf0\\x9f\\x8e": -4.0},
        *[{}] * 4,
    ],
}


def test_the_bytes_of_all_tokens_are_those_of_the_text() -> None:
    made = job({"text": "🎉\ufffda", "logprobs": PARTS})

    content = response_of(ChatResponse, made).to_object(made)["choices"][0]["logprobs"]["content"]

    joined = b"".join(bytes(token["bytes"]) for token in content)
    assert joined.decode(errors="replace") == "🎉\ufffda"
    assert content[2]["token"] == "<|im_end|>"
    assert content[0]["top_logprobs"] == [
        {"token": "bytes:\\xf0\\x9f", "logprob": -0.1, "bytes": [0xF0, 0x9F]},
        {"token": "bytes:\\xf0\\x9f\\x8e", "logprob": -4.0, "bytes": [0xF0, 0x9F, 0x8E]},
        {"token": "bytes:\\xf0", "logprob": -7.0, "bytes": [0xF0]},
    ]


def test_tokens_of_one_character_have_its_offset() -> None:
    made = job({"text": "🎉\ufffda", "logprobs": PARTS})

    serialized = response_of(CompletionResponse, made).to_object(made)["choices"][0]["logprobs"]

    assert serialized["text_offset"] == [0, 0, 1, 1, 2]


def test_no_offset_is_beyond_the_text() -> None:
    """The tokens of a stop string are listed although the text does not contain them."""
    said = {"tokens": ["a", "##", "#"], "token_logprobs": [0.0] * 3, "top_logprobs": [{}] * 3}
    made = job({"text": "a", "logprobs": said})

    serialized = response_of(CompletionResponse, made).to_object(made)["choices"][0]["logprobs"]

    assert serialized["text_offset"] == [0, 1, 1]


@pytest.mark.parametrize("kind", [ChatResponse, CompletionResponse])
def test_log_probabilities_that_were_not_requested_are_null(kind: type[OpenAIResponse]) -> None:
    made = job({"text": "x", "logprobs": LOGPROBS})
    response = response_of(kind, made, logprobs=False)

    assert response.to_object(made)["choices"][0]["logprobs"] is None
    assert response.delta_chunks(Delta(0, "x", LOGPROBS, ""))[-1]["choices"][0]["logprobs"] is None


def test_usage_has_the_tokens_that_were_cached() -> None:
    made = job({"text": "x"})

    assert response_of(ChatResponse, made).to_object(made)["usage"] == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 4},
    }


def test_a_chat_is_streamed_as_openai_does() -> None:
    made = job({"text": "hi"}, {"text": ""})
    response = response_of(ChatResponse, made, usage=True)

    chunks = [
        *response.delta_chunks(Delta(0, "h", None, "")),
        *response.delta_chunks(Delta(0, "i", None, "")),
    ]
    chunks += response.end_chunks(made)

    role = {"role": "assistant", "content": "", "refusal": None}
    assert [
        (c["index"], c["delta"], c["finish_reason"]) for chunk in chunks for c in chunk["choices"]
    ] == [
        (0, role, None),
        (0, {"content": "h"}, None),
        (0, {"content": "i"}, None),
        (0, {}, "stop"),
        (1, role, None),  # of a choice without text
        (1, {}, "stop"),
    ]
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * 6
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] == 7
    assert {chunk["id"] for chunk in chunks} == {f"chatcmpl-{made.id.hex}"}


def test_a_stream_has_usage_only_on_request() -> None:
    made = job({"text": "hi"})
    response = response_of(ChatResponse, made)

    chunks = [*response.delta_chunks(Delta(0, "hi", None, "")), *response.end_chunks(made)]

    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize("serialize", [OpenAIResponse.to_object, OpenAIResponse.end_chunks])
def test_a_partial_completion_is_never_marked_as_complete(serialize: Any) -> None:
    made = job({"text": "hal", "finish_reason": "cancelled"}, state=JobState.CANCELLED)

    with pytest.raises(Conflict) as caught:
        serialize(response_of(ChatResponse, made), made)

    assert caught.value.code == "job_cancelled"
    assert caught.value.headers["x-should-retry"] == "false"
