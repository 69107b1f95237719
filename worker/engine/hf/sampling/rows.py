"""The sampling values of each row of scores, in the library's storage on the device.

The storage has the shape (values, rows) of 32-bit integers. Floats are stored by their bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from worker.engine.hf.sampling.draw import DrawArgs
from worker.engine.hf.sampling.penalties import PenaltyArgs


class RowValues(NamedTuple):
    """The values of one row, floats first; the defaults are those of a greedy row."""

    temperature: float = 0.0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    top_k: int = 0
    key_low: int = 0
    key_high: int = 0
    is_end_banned: int = 0
    slot: int = 0
    is_generated: int = 0


GREEDY_ROW = RowValues()
ROW_TENSORS = len(RowValues._fields)
_FLOATS = RowValues._fields.index("top_k")


def store_rows(storage: torch.Tensor, rows: Sequence[RowValues], *, count: int) -> None:
    """Write the rows to the library's storage, and greedy rows up to `count`.

    Args:
        storage: 32-bit integers of shape (`ROW_TENSORS`, at least `count`).
    """
    rows = [*rows, *[GREEDY_ROW] * (count - len(rows))]
    floats = torch.tensor([row[:_FLOATS] for row in rows], dtype=torch.float32)
    integers = torch.tensor([row[_FLOATS:] for row in rows], dtype=torch.int32)
    storage[:_FLOATS, :count].copy_(floats.t().contiguous().view(torch.int32))
    storage[_FLOATS:, :count].copy_(integers.t())


def draw_args(stored: torch.Tensor) -> DrawArgs:
    """Return the values of each row's draw; `stored` has the shape (`ROW_TENSORS`, rows)."""
    return DrawArgs(
        temperature=_float(stored, "temperature"),
        top_p=_float(stored, "top_p"),
        min_p=_float(stored, "min_p"),
        top_k=_integer(stored, "top_k"),
        key_low=_integer(stored, "key_low"),
        key_high=_integer(stored, "key_high"),
    )


def penalty_args(stored: torch.Tensor) -> PenaltyArgs:
    """Return each row's penalties; `stored` has the shape (`ROW_TENSORS`, rows)."""
    return PenaltyArgs(
        slot=_integer(stored, "slot"),
        is_generated=_integer(stored, "is_generated"),
        repetition=_float(stored, "repetition"),
        presence=_float(stored, "presence"),
        frequency=_float(stored, "frequency"),
    )


def end_bans(stored: torch.Tensor) -> torch.Tensor:
    """Return the rows where end tokens are banned, as booleans of shape (rows,)."""
    return _integer(stored, "is_end_banned") > 0


def _integer(stored: torch.Tensor, name: str) -> torch.Tensor:
    """Return one value of all rows, shape (rows,)."""
    return stored[RowValues._fields.index(name)]


def _float(stored: torch.Tensor, name: str) -> torch.Tensor:
    """Return one value of all rows as float32, shape (rows,)."""
    return _integer(stored, name).view(torch.float32)
