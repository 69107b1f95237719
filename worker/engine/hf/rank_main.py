"""Runs one rank of a model, other than rank 0: `python -m worker.engine.hf.rank_main`.

The first line of standard input is the rank's plan. The process ends when its input closes or when
its loop dies.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time

import torch
import torch.distributed as dist

from worker.engine.hf.loop import Loop
from worker.engine.hf.model.loading import load_model
from worker.engine.hf.rank_launcher import HOST, JOIN_TIMEOUT, RankPlan, join
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster

_log = logging.getLogger(__name__)

#: Time between two checks of the loop.
POLL_SECONDS = 0.1


def main() -> int:
    """Follow rank 0 until it ends."""
    plan = RankPlan.from_line(sys.stdin.readline())
    threading.Thread(target=_end_with_leader, daemon=True).start()
    torch.set_num_threads(plan.threads)
    join(plan, dist.TCPStore(HOST, plan.port, plan.size, timeout=JOIN_TIMEOUT))
    loaded = load_model(
        plan.model_path, dtype=plan.dtype, attention=plan.attention, tensor_parallel=plan.size
    )
    counters = VirtualCounters()
    loop = Loop(loaded=loaded, options=plan.options, roster=Roster(counters), counters=counters)
    loop.start()
    while loop.is_alive:
        time.sleep(POLL_SECONDS)
    if loop.error is not None:
        _log.error("rank %d died", plan.rank, exc_info=loop.error)
        os._exit(1)  # threads of the library may wait for other ranks forever
    threading.Event().wait()  # until the leader, which stopped the loop, closes the input
    return 0


def _end_with_leader() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
