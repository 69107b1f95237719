"""Draws one token for each row of scores: temperature, top-k, top-p, min-p and Gumbel noise.

Scores have the shape (rows, vocabulary), and drawn tokens the shape (rows,).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from worker.engine.hf.sampling.noise import gumbel

#: Most likely tokens to search first; a row that may keep more is sorted completely.
WINDOW = 1024
#: A lower temperature overflows. At this one the draw is the most likely token already.
LEAST_TEMPERATURE = 1e-4


@dataclass(frozen=True, slots=True)
class DrawArgs:
    """The values to draw each row by, each of shape (rows,).

    Attributes:
        key_low: first key of the row's noise, as `row_key` returns it; `key_high` is the second.
    """

    temperature: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    top_k: torch.Tensor
    key_low: torch.Tensor
    key_high: torch.Tensor

    def at(self, rows: torch.Tensor) -> DrawArgs:
        """Return the values of some rows; `rows` are indices of shape (chosen rows,)."""
        return DrawArgs(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def is_filtered(self) -> torch.Tensor:
        """Whether a row drops tokens before the draw, shape (rows,)."""
        return (self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0)


def draw(scores: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Draw the token of each row by the cheapest exact method for its values.

    The choice depends on the values, so a captured graph cannot contain it.

    Args:
        scores: logits of shape (rows, vocabulary).

    Returns:
        Token ids of shape (rows,).
    """
    tokens = torch.empty(scores.shape[0], dtype=torch.long, device=scores.device)
    scaled = _scaled(scores, args)
    plain = (~args.is_filtered).nonzero()[:, 0]
    if plain.numel():
        tokens[plain] = _draw_plain(scaled[plain], args.at(plain))
    rest = args.is_filtered.nonzero()[:, 0]
    if rest.numel():
        tokens[rest], is_exact = _draw_window(scaled[rest], args.at(rest))
        rest = rest[~is_exact]
    if rest.numel():
        tokens[rest] = _draw_sorted(scaled[rest], args.at(rest))
    return tokens


def draw_static(scores: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Draw the token of each row by the same operations for all values.

    Args:
        scores: logits of shape (rows, vocabulary).

    Returns:
        Token ids of shape (rows,).
    """
    return _draw_sorted(_scaled(scores, args), args)


def _scaled(scores: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Return the scores, shape (rows, vocabulary), divided by each row's temperature."""
    return scores / args.temperature.clamp_min(LEAST_TEMPERATURE)[:, None]


def _draw_plain(scaled: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Draw among all tokens; takes (rows, vocabulary), returns token ids of shape (rows,)."""
    ids = torch.arange(scaled.shape[1], device=scaled.device)[None]
    return (scaled + _noise(args, ids)).argmax(-1)


def _draw_sorted(scaled: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Draw from sorted rows; takes (rows, vocabulary), returns token ids of shape (rows,)."""
    values, ids = scaled.sort(dim=-1, descending=True)
    likelihood = (values - values.logsumexp(-1, keepdim=True)).exp()
    return _draw_from(values, ids, _keep(likelihood, args), args)


def _draw_window(scaled: torch.Tensor, args: DrawArgs) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw among the most likely tokens.

    Args:
        scaled: scores of shape (rows, vocabulary).

    Returns:
        Token ids of shape (rows,), and whether each draw is exact: no other token may be drawn.
    """
    values, ids = scaled.topk(min(WINDOW, scaled.shape[1]), dim=-1)
    likelihood = (values - scaled.logsumexp(-1, keepdim=True)).exp()
    is_exact = (
        ((args.top_k > 0) & (args.top_k <= values.shape[1]))
        | (likelihood.sum(-1) >= args.top_p)
        | (likelihood[:, -1] < args.min_p * likelihood[:, 0])
    )
    return _draw_from(values, ids, _keep(likelihood, args), args), is_exact


def _keep(likelihood: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Return which tokens of sorted rows may be drawn; the first always may.

    Args:
        likelihood: probabilities of shape (rows, tokens), the greatest first.

    Returns:
        Booleans of the same shape.
    """
    rank = torch.arange(likelihood.shape[1], device=likelihood.device)[None]
    top_k = args.top_k[:, None]
    keep = (rank < top_k) | (top_k <= 0)
    # As in other implementations, top-p is a share of the mass that top-k leaves.
    mass = torch.where(top_k > 0, (likelihood * keep).sum(-1, keepdim=True), 1.0)
    before = likelihood.cumsum(-1) - likelihood
    keep &= (before < args.top_p[:, None] * mass) | (args.top_p >= 1)[:, None]
    keep &= likelihood >= args.min_p[:, None] * likelihood[:, :1]
    return keep


def _draw_from(
    values: torch.Tensor, ids: torch.Tensor, keep: torch.Tensor, args: DrawArgs
) -> torch.Tensor:
    """Draw among kept tokens; all have shape (rows, tokens), the result has (rows,)."""
    noisy = (values + _noise(args, ids)).masked_fill(~keep, float("-inf"))
    return ids.gather(-1, noisy.argmax(-1, keepdim=True))[:, 0]


def _noise(args: DrawArgs, ids: torch.Tensor) -> torch.Tensor:
    """Return the noise of token ids, which have the shape (rows, tokens) or (1, tokens)."""
    return gumbel(args.key_low[:, None], args.key_high[:, None], ids)
