"""The processes beside this one that hold the other parts of a model split over several GPUs.

This process is rank 0: it alone takes requests, and it starts the others and ends them. They end by
themselves when it is gone: their standard input closes.
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
#: How long all may take to be there.
JOIN_TIMEOUT = timedelta(minutes=3)
#: How often it is looked whether all are there while they start.
POLL_SECONDS = 0.5
#: How long one may take longer than another to load its part.
LOAD_TIMEOUT = timedelta(hours=1)
#: How long the others may take to end after the loop did.
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RankPlan:
    """What each process is told: the model, how to run it, and where to meet."""

    model_path: str
    dtype: str
    attention: Attention
    threads: int
    options: LoopOptions
    size: int
    port: int = 0
    rank: int = 0

    def to_line(self) -> str:
        return json.dumps(asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> RankPlan:
        values = json.loads(line)
        options = LoopOptions(**values.pop("options"))
        attention = Attention(values.pop("attention"))
        return cls(**values, options=options, attention=attention)


class Ranks:
    """The other processes, as rank 0 sees them."""

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self._are_ready = threading.Event()
        threading.Thread(target=self._watch_start, name="ranks-watch", daemon=True).start()

    @classmethod
    def start(cls, plan: RankPlan) -> Ranks:
        """Start the others and meet them; each then loads its part of the model."""
        store = dist.TCPStore(
            HOST, 0, plan.size, is_master=True, timeout=JOIN_TIMEOUT, wait_for_workers=False
        )
        plan = replace(plan, port=store.port)
        ranks = cls([_spawn(replace(plan, rank=rank)) for rank in range(1, plan.size)])
        try:
            join(plan, store)
        except Exception:
            ranks.stop()
            raise
        return ranks

    @property
    def are_alive(self) -> bool:
        return all(process.poll() is None for process in self._processes)

    def mark_ready(self) -> None:
        """Note that all run: whoever asks `are_alive` looks after them from now on."""
        self._are_ready.set()

    def stop(self) -> None:
        """Let them end, as their standard input does; by force if they do not."""
        self._are_ready.set()
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                _log.warning("a process of the model did not end by itself")
                process.kill()
                process.wait()
        if dist.is_initialized():
            dist.destroy_process_group()

    def _watch_start(self) -> None:
        """End this process if another dies before all run: it would wait for that one for ever."""
        while not self._are_ready.wait(POLL_SECONDS):
            if not self.are_alive:
                _log.critical("a process of the model ended before the model was loaded")
                os._exit(1)


def join(plan: RankPlan, store: dist.TCPStore) -> None:
    """Meet the other processes of the model, each with the GPU of its number."""
    os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    # The library asks for it where graphs are captured, and before the processes meet.
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
        start_new_session=True,  # what stops a terminal's programs is for rank 0, which drains
    )
    assert process.stdin is not None
    process.stdin.write(plan.to_line())
    process.stdin.flush()
    return process
