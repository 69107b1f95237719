from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.generation import Generation


def test_the_documented_body_is_accepted() -> None:
    generation = Generation.model_validate(
        {
            "prompt": "Write a function",
            "maxTokens": 500,
            "temperature": 0.7,
            "topP": 1.0,
            "stop": ["###", "```"],
        }
    )

    assert (generation.max_tokens, generation.stop) == (500, ("###", "```"))


def test_snake_case_is_an_alias() -> None:
    assert Generation.model_validate({"prompt": "x", "max_tokens": 3}).max_tokens == 3


def test_one_stop_string_is_a_list_of_one() -> None:
    assert Generation.model_validate({"prompt": "x", "stop": "END"}).stop == ("END",)


def test_a_row_reads_back_the_same() -> None:
    generation = Generation.model_validate(
        {"messages": [{"role": "user", "content": "hi 🎉"}], "topK": 4, "seed": 7, "stop": ["a"]}
    )

    assert Generation.from_row(generation.to_row()) == generation


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prompt": ""},
        {"prompt": "x", "messages": [{"role": "user", "content": "x"}]},
        {"messages": []},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "user", "content": "NUL \x00"}]},
        {"messages": [{"role": "user", "content": "x"}], "promptMode": "raw"},
        {"prompt": "x", "promptMode": "wild"},
        {"prompt": "x", "maxTokens": -1},
        {"prompt": "x", "maxTokens": 0},
        {"prompt": "x", "temperature": 2.1},
        {"prompt": "x", "temperature": float("nan")},
        {"prompt": "x", "topP": -0.1},
        {"prompt": "x", "n": 9},
        {"prompt": "x", "stop": ["a"] * 9},
        {"prompt": "x", "maxTokens": 5.5},
        {"prompt": "x", "seed": -1},
        {"prompt": "x", "minTokens": 3, "maxTokens": 2},
        {"prompt": "NUL \x00"},
        {"prompt": "x", "surprise": 1},
    ],
)
def test_a_malformed_generation_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Generation.model_validate(body)
