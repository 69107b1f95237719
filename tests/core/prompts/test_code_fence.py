"""Stop strings that are the fence of a code block."""

from __future__ import annotations

import pytest

from core.prompts.code_fence import find_fence


@pytest.mark.parametrize(
    ("stop", "fence"),
    [
        (["```"], "```"),
        (["###", "```"], "```"),
        (["\n```"], "```"),
        (["```python"], "```"),
        (["``` ", "~~~"], "```"),
        (["~~~"], "~~~"),
        (["````md"], "````"),
    ],
)
def test_a_fence_is_found_without_its_language(stop: list[str], fence: str) -> None:
    assert find_fence(stop) == fence


@pytest.mark.parametrize("stop", ["###", "``", "~~", "```\nx", "a```", "``~", "END"])
def test_other_stop_strings_are_not_fences(stop: str) -> None:
    assert find_fence([stop]) is None
