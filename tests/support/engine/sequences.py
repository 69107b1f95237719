"""Makes sequences for tests of rules that need no model."""

from __future__ import annotations

import itertools

from worker.engine.hf.state.sequence import Sequence
from worker.engine.protocol import EngineRequest, Handle

_serials = itertools.count()


def make_sequence(
    account: str, *, prompt: int = 10, weight: float = 1.0, is_bulk: bool = False, n: int = 1
) -> Sequence:
    """Return the first sequence of a new request, newer than all earlier ones.

    Args:
        prompt: length of the prompt in tokens.
    """
    serial = next(_serials)
    request = EngineRequest(
        f"r{serial}", [1] * prompt, 10, account=account, weight=weight, is_bulk=is_bulk, n=n
    )
    return Sequence(Handle(request, lambda *args: None), 0, serial)
