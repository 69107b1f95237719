"""Draws one token per row from scores: temperature, top-k, top-p and min-p, by Gumbel noise."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch

from worker.engine.hf.sampling.noise import gumbel

#: Most likely tokens looked at first; rows that may keep more are sorted whole.
WINDOW = 1024
#: A lower temperature would overflow; the draw is the most likely token long before.
LEAST_TEMPERATURE = 1e-4


@dataclass(frozen=True, slots=True)
class DrawArgs:
    """One value per row, each of shape (rows,)."""

    temperature: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    top_k: torch.Tensor
    key_low: torch.Tensor
    key_high: torch.Tensor

    def at(self, rows: torch.Tensor) -> DrawArgs:
        """Return the values of some rows."""
        return DrawArgs(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def is_filtered(self) -> torch.Tensor:
        return (self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0)


def draw(scores: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Return the drawn token of each row, by the cheapest way that is exact for it.

    What the rows hold decides the way, so this cannot be part of a captured graph.
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
    """Return the drawn token of each row, by the same operations whatever the rows hold."""
    return _draw_sorted(_scaled(scores, args), args)


def _scaled(scores: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    return scores / args.temperature.clamp_min(LEAST_TEMPERATURE)[:, None]


def _draw_plain(scaled: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    ids = torch.arange(scaled.shape[1], device=scaled.device)[None]
    return (scaled + _noise(args, ids)).argmax(-1)


def _draw_sorted(scaled: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    values, ids = scaled.sort(dim=-1, descending=True)
    likelihood = (values - values.logsumexp(-1, keepdim=True)).exp()
    return _draw_kept(values, ids, _keep(likelihood, args), args)


def _draw_window(scaled: torch.Tensor, args: DrawArgs) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw among the most likely tokens; the second says where no other could be kept."""
    values, ids = scaled.topk(min(WINDOW, scaled.shape[1]), dim=-1)
    likelihood = (values - scaled.logsumexp(-1, keepdim=True)).exp()
    is_exact = (
        ((args.top_k > 0) & (args.top_k <= values.shape[1]))
        | (likelihood.sum(-1) >= args.top_p)
        | (likelihood[:, -1] < args.min_p * likelihood[:, 0])
    )
    return _draw_kept(values, ids, _keep(likelihood, args), args), is_exact


def _keep(likelihood: torch.Tensor, args: DrawArgs) -> torch.Tensor:
    """Return which tokens of the sorted rows may be drawn; the first always may."""
    rank = torch.arange(likelihood.shape[1], device=likelihood.device)[None]
    top_k = args.top_k[:, None]
    keep = (rank < top_k) | (top_k <= 0)
    # As elsewhere, top-p counts the mass that top-k leaves as the whole.
    mass = torch.where(top_k > 0, (likelihood * keep).sum(-1, keepdim=True), 1.0)
    before = likelihood.cumsum(-1) - likelihood
    keep &= (before < args.top_p[:, None] * mass) | (args.top_p >= 1)[:, None]
    keep &= likelihood >= args.min_p[:, None] * likelihood[:, :1]
    return keep


def _draw_kept(
    values: torch.Tensor, ids: torch.Tensor, keep: torch.Tensor, args: DrawArgs
) -> torch.Tensor:
    noisy = (values + _noise(args, ids)).masked_fill(~keep, float("-inf"))
    return ids.gather(-1, noisy.argmax(-1, keepdim=True))[:, 0]


def _noise(args: DrawArgs, ids: torch.Tensor) -> torch.Tensor:
    return gumbel(args.key_low[:, None], args.key_high[:, None], ids)
