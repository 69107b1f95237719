"""The library's loop of continuous batching: creation, start, restart, input and stop.

No other module uses the library's manager. `tests/worker/engine/hf/test_contract.py` lists the
semi-private names that this module relies on.
"""

from __future__ import annotations

import gc
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from worker.engine.hf.model import cpu_attention
from worker.engine.hf.model.loading import LoadedModel
from worker.engine.hf.router import EventRouter, SilentRouter
from worker.engine.hf.sampling.sampler import Sampler
from worker.engine.hf.scheduling.prefix_isolation import register_salted_cache
from worker.engine.hf.scheduling.rank_sync import RankSync
from worker.engine.hf.scheduling.scheduler import SCHEDULER_NAME, FairScheduler, register_scheduler
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import SequenceState
from worker.engine.hf.step_clock import StepClock

#: How long a loop may take to finish its step when it stops.
STOP_SECONDS = 10.0
#: Size of the cache on a CPU. By default the library takes 60 % of the memory.
CPU_CACHE_BYTES = 512 * 1024**2
#: Tokens of a page. Attention reads large pages in place much faster than small ones, on CPUs too.
PAGE_SIZE = 256


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How the loop uses the machine; the settings `engine_*` have the same names.

    Attributes:
        max_sequences: sequences in a step, at most.
        max_batch_tokens: tokens in a step, at most.
        cache_blocks: pages of the cache. 0 sizes it by the GPU's memory; on a CPU by the sequences
            that can run at once, up to `CPU_CACHE_BYTES`.
        page_size: tokens of a page; 0 is `PAGE_SIZE`.
        prefix_common: share cached prefixes between accounts, which timing then reveals.
    """

    max_sequences: int = 32
    max_batch_tokens: int = 512
    cache_blocks: int = 0
    page_size: int = 0
    async_batching: bool = False
    cuda_graphs: bool = False
    prefix_sharing: bool = False
    prefix_common: bool = False


class Loop:
    """The library's manager, with our scheduler, sampler and router in place of its own.

    Attributes:
        scheduler: available after the first start.
        cache_tokens: capacity of the cache in tokens, for all sequences together.
        step_clock: measures each step and passes it to its `observe`.
    """

    scheduler: FairScheduler
    cache_tokens: int
    _cache: Any = None

    def __init__(
        self,
        *,
        loaded: LoadedModel,
        options: LoopOptions,
        roster: Roster,
        counters: VirtualCounters,
    ) -> None:
        self._roster = roster
        self._counters = counters
        self._options = options
        register_scheduler()
        register_salted_cache()
        device = loaded.device
        self.page_size = options.page_size or PAGE_SIZE
        self._manager = loaded.model.init_continuous_batching(
            generation_config=_greedy_config(),
            continuous_batching_config=self._library_config(loaded),
        )
        self._allow_decode_path(loaded)
        helper = self._manager.distributed_helper
        self._rank_sync = RankSync(helper) if helper.tp_size > 1 else None
        self.sampler = Sampler(
            is_live=lambda library_id: library_id in self.scheduler.active_requests,
            vocab_size=loaded.vocab_size,
            eos_ids=loaded.eos_ids,
            max_rows=min(options.max_sequences, options.max_batch_tokens),
            device=device,
            is_static=options.cuda_graphs or options.async_batching,
        )
        self.step_clock = StepClock()
        self.sampler.on_step = self.step_clock.begin
        self.router = EventRouter(
            roster=roster,
            counters=counters,
            eos_ids=loaded.eos_ids,
            logprob_of=self.sampler.logprob_of,
            cancel=self.cancel,
        )
        self._manager.logit_processor = self.sampler
        if self._rank_sync is None or self._rank_sync.is_leader:
            self._manager.output_router = self.router
        else:
            self._manager.output_router = SilentRouter()
            self._manager._wake_up_loop = _NoWait()

    def start(self) -> None:
        """Start the loop, or restart it after it died; the first start allocates the cache."""
        if self._manager.batch_processor is None:
            self._manager.warmup()
            self._attach()
        self._manager.start()

    def stop(self) -> None:
        """Stop the loop after its current step and free the cache."""
        self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
        if not self.is_alive:
            self._manager.destroy()
            self._cache = None
            self.scheduler.cache = None  # type: ignore[assignment]  # nothing calls it after this
            gc.collect()  # reference cycles of the library hold the cache's memory until then

    def enqueue(self, states: Iterable[SequenceState]) -> None:
        """Queue new states for the loop."""
        for state in states:
            self._manager.input_queue.put(state)
        self._manager._wake_up_loop.set()

    def cancel(self, library_id: str) -> None:
        """Let the loop drop a state in its next iteration."""
        self._manager.cancel_request(library_id)

    def drop_queued(self) -> None:
        """Empty the queues of a dead loop: states and cancellations that it did not take."""
        for waiting in (self._manager.input_queue, self._manager.cancel_queue):
            while True:
                try:
                    waiting.get_nowait()
                except queue.Empty:
                    break

    @property
    def is_alive(self) -> bool:
        alive: bool = self._manager.is_running()
        return alive

    @property
    def error(self) -> Exception | None:
        """The exception that ended the loop, if one did."""
        error: Exception | None = self._manager.background_thread_status.fatal_error
        return error

    def cache_use(self) -> float:
        """Return the used share of the cache, 0 to 1; pages held only for reuse count as free."""
        cache = self._cache
        if cache is None:
            return 0.0
        allocators = cache.cache_allocators.values()
        reusable = sum(len(a.ledger.cached_blocks) * a.bytes_per_block for a in allocators)
        total = cache.num_sectors * cache.bytes_per_sector
        free: float = (cache.compute_free_capacity(relative=False) + reusable) / total
        return 1.0 - free

    @property
    def cache_blocks(self) -> int:
        return 0 if self._cache is None else int(self._cache.num_blocks)

    def _library_config(self, loaded: LoadedModel) -> ContinuousBatchingConfig:
        options = self._options
        blocks: int | None = options.cache_blocks or None
        if blocks is None and loaded.device.type == "cpu":
            blocks = -(-self._cpu_cache_tokens(loaded) // self.page_size)
        return ContinuousBatchingConfig(
            page_size=self.page_size,
            num_blocks=blocks,
            max_batch_tokens=options.max_batch_tokens,
            max_requests_per_batch=options.max_sequences,
            max_blocks_per_request=self._decode_path_pages(loaded),
            allow_block_sharing=options.prefix_sharing,
            use_async_batching=options.async_batching,
            use_cuda_graph=options.cuda_graphs,
            scheduler_type=SCHEDULER_NAME,
            auto_switch_to_flash=False,
        )

    def _cpu_cache_tokens(self, loaded: LoadedModel) -> int:
        """Return the tokens to cache on a CPU: those that can run at once, if they fit."""
        wanted = self._options.max_sequences * loaded.context_length
        affordable = CPU_CACHE_BYTES // loaded.bytes_per_token
        return min(wanted, max(affordable, loaded.context_length))

    def _decode_path_pages(self, loaded: LoadedModel) -> int | None:
        """Return the pages of a block table; `None` on a CPU, where the library would warn."""
        if loaded.device.type == "cpu":
            return None
        return -(-loaded.context_length // self.page_size)

    def _allow_decode_path(self, loaded: LoadedModel) -> None:
        """Turn block tables on for the CPU stand-ins: the library offers them on a GPU only."""
        if loaded.model.config._attn_implementation == cpu_attention.NAME:
            config = self._manager.continuous_batching_config
            config.max_blocks_per_request = -(-loaded.context_length // self.page_size)

    def _attach(self) -> None:
        processor = self._manager.batch_processor
        scheduler = processor.scheduler
        if not isinstance(scheduler, FairScheduler):  # for an unknown name the library uses FIFO
            raise RuntimeError(f"the library chose {type(scheduler).__name__} as its scheduler")
        self.scheduler = scheduler
        self._cache = processor.cache
        self.cache_tokens = int(self._cache.num_blocks) * self.page_size
        scheduler.attach(
            roster=self._roster,
            counters=self._counters,
            on_iteration=self._end_iteration,
            on_orphan=self.cancel,
            rank_sync=self._rank_sync,
        )
        if not self._options.prefix_common:
            for allocator in self._cache.cache_allocators.values():
                allocator.account_of = self._account_of

    def _end_iteration(self) -> None:
        self.step_clock.end()
        self.router.flush()

    def _account_of(self, library_id: str) -> str:
        scheduler = self.scheduler
        states = (scheduler.active_requests, scheduler.waiting_requests)
        state = next((found for known in states if (found := known.get(library_id))), None)
        # A state without an owner gets an account of its own, so that its prefix is not shared.
        return state.account if isinstance(state, SequenceState) else f"\0{library_id}"


class _NoWait(threading.Event):
    """An event that never waits: a follower rank waits for its leader's broadcast instead."""

    def wait(self, timeout: float | None = None) -> bool:
        return True


def _greedy_config() -> GenerationConfig:
    """Return a configuration in which our sampler draws tokens and our states find ends."""
    return GenerationConfig(  # type: ignore[no-untyped-call]  # untyped there
        do_sample=False, eos_token_id=-1
    )
