"""Counting is exact for prompts that fit, bounded for others, and lets other threads work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from core.config.settings import PromptMode
from core.generation import Generation
from core.prompts.tokenizer import PromptText, PromptTokenizer

MOST = 1024
PIECES = ["aA1 ", "x", " ", "def f(x):\n    return x\n", "世界", "9", "<|im_end|>", "!@#$%^&*()"]


def raw(text: str) -> PromptText:
    return PromptText(text, is_templated=False)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("mode", PromptMode)
def test_a_prompt_that_fits_is_counted_exactly(
    tokenizer: PromptTokenizer, piece: str, mode: PromptMode
) -> None:
    fitting = 0
    for repeats in (10, 100, 300, 900, 1024, 3000, 20_000):
        generation = Generation(prompt=piece * repeats, prompt_mode=mode)
        text = tokenizer.text_of(generation)
        expected = len(tokenizer.encode(generation))

        counted = tokenizer.count_one(text, most=MOST)

        if expected <= MOST:
            assert counted == expected
            fitting += 1
        else:
            assert counted is None or counted == expected
        assert tokenizer.count([text, raw("x")], most=MOST) == [counted, 1]
    assert fitting >= 2


def test_a_text_longer_than_its_tokens_can_be_is_not_counted(tokenizer: PromptTokenizer) -> None:
    longest = tokenizer.longest_token
    assert longest is not None

    assert tokenizer.may_fit(longest * MOST, MOST)
    assert not tokenizer.may_fit(longest * MOST + 1, MOST)


@pytest.mark.alone
@pytest.mark.parametrize("piece", ["aA1 ", "x", "9", "世界"])
def test_the_cost_of_a_long_prompt_is_bounded_by_what_may_fit(
    tokenizer: PromptTokenizer, piece: str
) -> None:
    def seconds(characters: int) -> float:
        text = raw(piece * (characters // len(piece)))
        return min(_seconds(lambda: tokenizer.count_one(text, most=8192)) for _ in range(3))

    assert seconds(600_000) < 5 * seconds(60_000)


@pytest.mark.alone
def test_other_threads_work_while_a_long_prompt_is_counted(tokenizer: PromptTokenizer) -> None:
    text = raw("aA1 " * 250_000)
    longest, last = 0.0, time.perf_counter()
    counting = threading.Thread(target=tokenizer.count, args=([text],), kwargs={"most": 1_000_000})

    counting.start()
    while counting.is_alive():
        time.sleep(0.001)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now

    assert longest < 0.2


def _seconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began
