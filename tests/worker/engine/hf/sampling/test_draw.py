"""Draws follow the distribution of the request and repeat with its seed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from worker.engine.hf.sampling import draw as draw_module
from worker.engine.hf.sampling.draw import DrawArgs, draw, draw_static
from worker.engine.hf.sampling.noise import gumbel, row_key

DRAWS = 40_000


def args_of(
    rows: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    top_k: int = 0,
    seed: int = 1,
) -> DrawArgs:
    """Return the same sampling for `rows` positions of one sequence."""
    keys = torch.tensor([row_key(seed, 0, position) for position in range(rows)])
    return DrawArgs(
        temperature=torch.full((rows,), temperature),
        top_p=torch.full((rows,), top_p),
        min_p=torch.full((rows,), min_p),
        top_k=torch.full((rows,), top_k),
        key_low=keys[:, 0].int(),
        key_high=keys[:, 1].int(),
    )


def expected_share(
    scores: torch.Tensor, *, temperature: float, top_p: float, min_p: float, top_k: int
) -> torch.Tensor:
    """Return each token's share by applying the plain definitions one after another."""
    share = (scores / temperature).softmax(-1)
    keep = torch.ones_like(share, dtype=torch.bool)
    order = share.argsort(descending=True)
    if top_k:
        keep[order[top_k:]] = False
    left = torch.where(keep, share, 0.0)
    left = left / left.sum()
    before = left[order].cumsum(0) - left[order]
    keep[order[before >= top_p]] = False
    keep &= share >= min_p * share.max()
    remaining = torch.where(keep, share, 0.0)
    return remaining / remaining.sum()


@pytest.mark.parametrize("drawer", [draw, draw_static])
@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "top_k": 0},
        {"temperature": 0.5, "top_p": 1.0, "min_p": 0.0, "top_k": 0},
        {"temperature": 1.0, "top_p": 0.7, "min_p": 0.0, "top_k": 0},
        {"temperature": 1.5, "top_p": 1.0, "min_p": 0.0, "top_k": 4},
        {"temperature": 1.0, "top_p": 0.8, "min_p": 0.0, "top_k": 6},
        {"temperature": 2.0, "top_p": 1.0, "min_p": 0.3, "top_k": 0},
    ],
)
def test_draws_follow_the_distribution(drawer, settings) -> None:  # type: ignore[no-untyped-def]  # parametrized
    torch.manual_seed(0)
    scores = torch.randn(12) * 1.5

    tokens = drawer(scores.expand(DRAWS, -1), args_of(DRAWS, **settings))

    expected = expected_share(scores, **settings) * DRAWS
    counts = torch.bincount(tokens, minlength=12).float()
    assert not counts[expected == 0].any()
    likely = expected > 0
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    # The mean is one less than the number of tokens; this bound fails once in a million.
    degrees = int(likely.sum()) - 1
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5 + 12


def test_a_window_too_small_for_a_row_gives_the_same_draws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(1)
    scores = torch.randn(500, 300)
    args = args_of(500, top_p=0.95)
    whole = draw(scores, args)

    monkeypatch.setattr(draw_module, "WINDOW", 8)

    assert torch.equal(draw(scores, args), whole)
    assert torch.equal(draw_static(scores, args), whole)


def test_a_row_draws_the_same_among_rows_of_other_kinds() -> None:
    torch.manual_seed(2)
    scores = torch.randn(64, 200)
    mixed = args_of(64)
    mixed = replace(
        mixed,
        top_k=torch.arange(64) % 7,
        top_p=torch.where(torch.arange(64) % 3 == 0, 0.9, 1.0),
        temperature=0.5 + torch.arange(64) / 64,
    )

    together = draw(scores, mixed)

    for row in range(64):
        one = torch.tensor([row])
        assert draw(scores[one], mixed.at(one)) == together[row]


def test_a_very_low_temperature_takes_the_most_likely_token() -> None:
    scores = torch.randn(50, 30)

    assert torch.equal(draw(scores, args_of(50, temperature=1e-9)), scores.argmax(-1))


def test_keys_differ_by_seed_sequence_and_position() -> None:
    keys = {
        row_key(seed, index, position)
        for seed in (0, 1, -5, 2**60)
        for index in range(8)
        for position in range(200)
    }

    assert len(keys) == 4 * 8 * 200
    assert row_key(7, 0, 3) == row_key(7 + 2**64, 0, 3)


def test_noise_is_that_of_a_gumbel_distribution() -> None:
    low, high = torch.tensor([[row_key(3, 0, 0)[0]]]), torch.tensor([[row_key(3, 0, 0)[1]]])

    noise = gumbel(low, high, torch.arange(200_000)[None]).double()

    assert noise.isfinite().all()
    assert abs(noise.mean() - 0.57722) < 0.02
    assert abs(noise.var() - 1.64493) < 0.05
    neighbours = torch.corrcoef(torch.stack([noise[0, :-1], noise[0, 1:]]))[0, 1]
    assert abs(neighbours) < 0.01
