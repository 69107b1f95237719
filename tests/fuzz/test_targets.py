"""Runs each target of fuzzing for a moment; `make fuzz` runs them for minutes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.fuzz.target import MOST_BYTES, Target
from tests.fuzz.targets import TARGETS

EXAMPLES = 120


class Recipe(NamedTuple):
    """A short description of an input: a seed, and changes to it.

    Attributes:
        changes: for each, where it is (a share of the length), how many bytes it removes, and
            which bytes it adds.
        is_pumped: each change is repeated until the input has its full size.
    """

    seed: bytes
    changes: list[tuple[float, int, bytes]]
    is_pumped: bool = False

    def make(self) -> bytes:
        data = self.seed
        for share, removed, added in self.changes:
            at = round(share * len(data))
            times = (MOST_BYTES - len(data)) // max(1, len(added)) if self.is_pumped else 1
            data = data[:at] + added * times + data[at + removed :]
        return data


def recipes(target: Target) -> SearchStrategy[Recipe]:
    """Return valid inputs with small faults, and some random bytes."""
    word = st.one_of(st.sampled_from([*target.words, b"\0", b"\xff"]), st.binary(max_size=4))
    change = st.tuples(st.floats(0, 1), st.integers(0, 12), word)
    changed = st.builds(Recipe, st.sampled_from(target.seeds), st.lists(change, max_size=6))
    pumped = st.builds(
        Recipe, st.sampled_from(target.seeds), st.lists(change, max_size=1), st.just(True)
    )
    nonsense = st.builds(Recipe, st.binary(max_size=64), st.just([]))
    return st.one_of(changed, changed, changed, nonsense, pumped)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_bytes_end_as_the_contract_says(target: Target) -> None:
    for seed in target.seeds:
        target.check(seed)

    @settings(max_examples=EXAMPLES)
    @given(recipes(target))
    def check(recipe: Recipe) -> None:
        target.check(recipe.make())

    check()
