"""Counter-based noise: seed, position and token alone decide each number.

The greatest score after adding Gumbel noise is a draw from the softmax of the scores. A draw needs
no generator with a state, so a request that runs again after a failure gets the same noise.
"""

from __future__ import annotations

import torch

_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


def row_key(seed: int, index: int, position: int) -> tuple[int, int]:
    """Return the two keys of one draw of sequence `index`, as signed 32-bit numbers.

    The first sequence of a request has the same keys for every `n`.
    """
    key = _mix64(_mix64((seed & _MASK64) + index * 0xD1B54A32D192ED03) + position)
    return _signed(key & _MASK32), _signed(key >> 32)


def gumbel(low: torch.Tensor, high: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return standard Gumbel noise for each token of each row.

    Args:
        low: first key of each row, shape (rows, 1).
        high: second key of each row, shape (rows, 1).
        tokens: token ids, shape (rows, tokens) or (1, tokens).

    Returns:
        Noise in float32, shape (rows, tokens).
    """
    bits = (low.long() + tokens.long() * 0x9E3779B1) & _MASK32
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & _MASK32
    bits = ((bits ^ (bits >> 13) ^ (high.long() & _MASK32)) * 0xC2B2AE35) & _MASK32
    bits = bits ^ (bits >> 16)
    # Small values keep their full precision in float32, and small values win a draw.
    uniform = ((bits.float() + 0.5) * 2.0**-32).clamp_max(1 - 2.0**-24)
    return -(-torch.log1p(-uniform)).log()


def _mix64(value: int) -> int:
    """Scramble 64 bits (the finalizer of SplitMix64)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK64
    return value ^ (value >> 31)


def _signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value
