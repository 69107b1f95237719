"""Starts and ends the other ranks of a model that is split over several GPUs.

This process is rank 0. It alone takes requests. The other ranks end when their standard input
closes, so they also end when rank 0 dies.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist

from core.config.settings import Attention
from worker.engine.hf.loop import LoopOptions

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
LOOPBACK = "lo"
#: How long the ranks may take to connect to one another.
JOIN_TIMEOUT = timedelta(minutes=3)
#: Time between two checks of the other ranks while they start.
POLL_SECONDS = 0.5
#: Timeout of a collective operation: one rank may load its part this much longer than another.
LOAD_TIMEOUT = timedelta(hours=1)
#: How long the other ranks may take to end after the loop.
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RankPlan:
    """The configuration of one rank; its JSON line is the first line of the rank's input.

    Attributes:
        threads: of torch on a CPU.
        size: number of ranks.
        port: of rank 0's store, through which the ranks connect.
    """

    model_path: str
    dtype: str
    attention: Attention
    threads: int
    options: LoopOptions
    size: int
    port: int = 0
    rank: int = 0

    def to_line(self) -> str:
        """Return the plan as one line of JSON."""
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> RankPlan:
        """Return the plan of a line that `to_line` wrote."""
        values = json.loads(line)
        options = LoopOptions(**values.pop("options"))
        attention = Attention(values.pop("attention"))
        return cls(**values, options=options, attention=attention)


class Ranks:
    """The processes of the other ranks, as rank 0 holds them."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self._are_ready = threading.Event()
        threading.Thread(target=self._guard_startup, name="rank-startup", daemon=True).start()

    @classmethod
    def start(cls, plan: RankPlan) -> Ranks:
        """Start the other ranks and connect to them; each then loads its part of the model."""
        store = dist.TCPStore(
            HOST, 0, plan.size, is_master=True, timeout=JOIN_TIMEOUT, wait_for_workers=False
        )
        plan = replace(plan, port=store.port)
        ranks = cls([_spawn(replace(plan, rank=rank)) for rank in range(1, plan.size)])
        try:
            join(plan, store)
        except Exception:  # any error: no process of the other ranks may stay
            ranks.stop()
            raise
        return ranks

    @property
    def are_alive(self) -> bool:
        """Whether all other ranks run."""
        return all(process.poll() is None for process in self._processes)

    def mark_ready(self) -> None:
        """End the guard of the startup; from now on callers check `are_alive`."""
        self._are_ready.set()

    def stop(self) -> None:
        """Close the standard input of each rank, and kill those that do not end in time."""
        self._are_ready.set()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _log.warning("killing a rank that did not end in %.0f seconds", STOP_SECONDS)
                process.kill()
                process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _guard_startup(self) -> None:
        """End this process if a rank dies before all run, or it would wait forever."""
        while not self._are_ready.wait(POLL_SECONDS):
            if not self.are_alive:
                _log.critical("a rank ended before the model was loaded")
                os._exit(1)


def join(plan: RankPlan, store: dist.TCPStore) -> None:
    """Join the process group of the model, with the GPU of this rank's number."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    # The library needs this for captured graphs, set before the process group exists.
    os.environ.setdefault("NCCL_GRAPH_MIXING_SUPPORT", "0")
    device = None
    if torch.cuda.is_available():
        device = torch.device("cuda", plan.rank)
        torch.cuda.set_device(device)
    dist.init_process_group(
        "nccl" if device else "gloo",
        store=store,
        rank=plan.rank,
        world_size=plan.size,
        timeout=LOAD_TIMEOUT,
        device_id=device,
    )


def _spawn(plan: RankPlan) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.engine.hf.rank_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,  # a terminal's signals reach rank 0 only, which drains
    )
    assert process.stdin is not None
    process.stdin.write(plan.to_line())
    process.stdin.flush()
    return process
