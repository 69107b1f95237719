"""The engine that runs a model: transformers' continuous batching behind the `Engine` protocol.

`Loop` runs the library with our scheduler and sampler. `Roster` holds the sequences in the engine,
`EventRouter` delivers events, and `Watchdog` restarts the loop when it fails.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence as Items

import torch

from core.config.settings import Attention, Settings
from worker.engine.hf.loop import Loop, LoopOptions
from worker.engine.hf.model.loading import LoadedModel, load_model
from worker.engine.hf.rank_launcher import RankPlan, Ranks
from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.request_validation import RequestValidator
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.submitter import Submitter
from worker.engine.hf.watchdog import Watchdog
from worker.engine.protocol import (
    Deliver,
    EngineRefused,
    EngineRequest,
    EngineStats,
    EngineStopping,
    FinishReason,
    Handle,
    ObserveStep,
    StepEvent,
)

#: Timeout of the warm-up request, which proves that the engine works.
WARM_UP_SECONDS = 600.0


class HFEngine:
    """Run requests together on one model. Any thread may call any method.

    Attributes:
        options: how the loop shares the machine.
    """

    def __init__(
        self,
        *,
        model_path: str = "",
        loaded: LoadedModel | None = None,
        dtype: str = "auto",
        attention: Attention = Attention.AUTO,
        options: LoopOptions | None = None,
        threads: int = 0,
        stall_seconds: float = 60.0,
        tensor_parallel: int = 1,
    ) -> None:
        """Store the options of `start`.

        Args:
            loaded: a model to use instead of the one at `model_path`.
            threads: of torch on a CPU; 0 uses all cores of this process.
            stall_seconds: the engine is unhealthy after this long without a step.
            tensor_parallel: number of ranks, each a process with its own GPU.
        """
        self.options = options or LoopOptions()
        self._model_path = model_path
        self._loaded = loaded
        self._dtype = dtype
        self._attention = attention
        self._threads = threads
        self._stall_seconds = stall_seconds
        self._tensor_parallel = tensor_parallel
        self._ranks: Ranks | None = None
        self._counters = VirtualCounters()
        self._roster = Roster(self._counters)
        self._loop: Loop | None = None
        self._is_stopping = False
        self._observe_step: ObserveStep = lambda step: None

    @classmethod
    def from_settings(cls, settings: Settings) -> HFEngine:
        """Return the engine that the settings describe."""
        return cls(
            model_path=settings.model_path,
            dtype=settings.engine_dtype,
            attention=settings.engine_attention,
            options=LoopOptions(
                max_sequences=settings.engine_max_sequences,
                max_batch_tokens=settings.engine_max_batch_tokens,
                cache_blocks=settings.engine_cache_blocks,
                page_size=settings.engine_page_size,
                async_batching=settings.engine_async_batching,
                cuda_graphs=settings.engine_cuda_graphs,
                prefix_sharing=settings.engine_prefix_sharing,
                prefix_common=settings.engine_prefix_common,
            ),
            threads=settings.engine_threads,
            stall_seconds=settings.engine_stall_seconds,
            tensor_parallel=settings.engine_tensor_parallel,
        )

    @property
    def context_length(self) -> int:
        return self._validator.context_length

    @property
    def is_healthy(self) -> bool:
        has_all = self._ranks is None or self._ranks.are_alive
        return self._loop is None or (has_all and self._watchdog.is_healthy)

    @property
    def loaded(self) -> LoadedModel:
        """The model.

        Raises:
            RuntimeError: the engine has not started.
        """
        if self._loaded is None:
            raise RuntimeError("the engine has not started")
        return self._loaded

    @property
    def loop(self) -> Loop:
        """The library's loop.

        Raises:
            RuntimeError: the engine has not started.
        """
        if self._loop is None:
            raise RuntimeError("the engine has not started")
        return self._loop

    @property
    def cache_tokens(self) -> int:
        """Tokens that the attention cache holds, of all sequences together."""
        return self.loop.cache_tokens

    def observe_steps(self, observe: ObserveStep) -> None:
        self._observe_step = observe

    def start(self, deliver: Deliver) -> None:
        """Load the model, run one request through it, and take requests from then on."""
        try:
            loaded = self._loaded = self._loaded or self._load()
            loop = Loop(
                loaded=loaded, options=self.options, roster=self._roster, counters=self._counters
            )
        except Exception:  # any error: no process of the other ranks may stay
            if self._ranks is not None:
                self._ranks.stop()
            raise
        loop.start()
        loop.step_clock.observe = self._observe_step
        self._validator = RequestValidator(
            vocab_size=loaded.vocab_size,
            context_length=min(loaded.context_length, loop.cache_tokens),
            max_sequences=self.options.max_sequences,
            has_logprobs=not loop.sampler.is_static,
        )
        self._submitter = Submitter(loop=loop, roster=self._roster, eos_ids=loaded.eos_ids)
        self._watchdog = Watchdog(
            loop=loop,
            roster=self._roster,
            submitter=self._submitter,
            stall_seconds=self._stall_seconds,
            can_restart=self._ranks is None,
        )
        self._loop = loop
        self._watchdog.start()
        self._warm_up()
        if self._ranks is not None:
            self._ranks.mark_ready()
        loop.router.send_to(deliver)

    def submit(self, request: EngineRequest) -> Handle:
        """Queue a request.

        Raises:
            EngineRefused: the request cannot run; the message lists all faults.
            EngineStopping: the engine is stopping, or cannot continue.
        """
        self._validator.validate(request)
        handle = Handle(request=request, cancel_with=self._cancel)
        with self._roster.lock:
            if self._is_stopping or not self.is_healthy:
                raise EngineStopping("the engine is stopping")
            if request.request_id in self._roster:
                raise EngineRefused(f"a request with the id {request.request_id} is running")
            self._submitter.submit(handle, is_held=self._watchdog.must_hold)
        return handle

    def stats(self) -> EngineStats:
        """Return the engine's numbers without waiting for a step to end."""
        if self._loop is None:
            return EngineStats()  # the model is loading
        running = len(self.loop.scheduler.active_requests)
        return EngineStats(
            running=running,
            waiting=max(0, len(self._roster) - running),
            cache_use=self.loop.cache_use(),
            cache_blocks=self.loop.cache_blocks,
            steps=self.loop.sampler.steps,
            generated_tokens=self.loop.router.generated_tokens,
            restarts=self._watchdog.restarts,
        )

    def stop(self) -> None:
        """End running requests as `CANCELLED` and free the cache; safe to call twice."""
        with self._roster.lock:
            if self._is_stopping:
                return
            self._is_stopping = True
            self._roster.end_later(self._roster.live(), FinishReason.CANCELLED)
        if self._loop is not None:
            self._watchdog.stop()
            self._loop.stop()
            self._loop.router.flush()
        if self._ranks is not None:
            self._ranks.stop()

    def _load(self) -> LoadedModel:
        threads = self._threads or len(os.sched_getaffinity(0))
        torch.set_num_threads(threads)
        if self._tensor_parallel > 1:
            self._ranks = Ranks.start(
                RankPlan(
                    model_path=self._model_path,
                    dtype=self._dtype,
                    attention=self._attention,
                    threads=threads,
                    options=self.options,
                    size=self._tensor_parallel,
                )
            )
        return load_model(
            self._model_path,
            dtype=self._dtype,
            attention=self._attention,
            tensor_parallel=self._tensor_parallel,
        )

    def _cancel(self, handle: Handle, index: int | None, reason: FinishReason) -> None:
        with self._roster.lock:
            members = [s for s in self._roster.of(handle) if index in (None, s.index)]
            ended = self._roster.end_later(members, reason)
        for sequence in ended:
            self.loop.cancel(sequence.library_id)

    def _warm_up(self) -> None:
        """Run one short request, so that a broken engine fails here and not on a job."""
        ended = threading.Event()
        reasons: list[FinishReason] = []

        def note(events: Items[StepEvent]) -> None:
            reasons.extend(e.finish_reason for e in events if e.finish_reason is not None)
            if reasons:
                ended.set()

        self.loop.router.send_to(note)
        self.submit(EngineRequest(request_id="warm-up", prompt_ids=[0] * 3, max_tokens=2))
        if not ended.wait(WARM_UP_SECONDS) or FinishReason.ERROR in reasons:
            self.stop()
            raise RuntimeError("the engine could not run its first request")
