"""Turns the library's outputs of a step into one list of events, on the engine's thread."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from transformers.generation.continuous_batching.continuous_api import OutputRouter

from worker.engine.hf.state.fairness import VirtualCounters
from worker.engine.hf.state.roster import Roster
from worker.engine.hf.state.sequence import Sequence, StateOutput, finish_reason
from worker.engine.protocol import Deliver, StepEvent, TokenLogprob

_log = logging.getLogger(__name__)

#: Takes a library id, a token of the last step and a count; returns the token's log probability.
LogprobOf = Callable[[str, int, int], TokenLogprob]


class EventRouter(OutputRouter):
    """Replace the library's output router: one lookup an output, one delivery a step."""

    def __init__(
        self,
        *,
        roster: Roster,
        counters: VirtualCounters,
        eos_ids: tuple[int, ...],
        logprob_of: LogprobOf,
        cancel: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._roster = roster
        self._counters = counters
        self._eos_ids = eos_ids
        self._logprob_of = logprob_of
        self._cancel = cancel
        self._delivering = threading.RLock()
        self._deliver: Deliver = lambda events: None
        self.generated_tokens = 0

    def send_to(self, deliver: Deliver) -> None:
        """Set the receiver of all further events."""
        with self._delivering:
            self._deliver = deliver

    def deliver_batch(self, outputs: list[Any]) -> None:
        """Deliver the outputs of one step and the queued ends as one list."""
        with self._delivering:
            with self._roster.lock:
                events = [event for output in outputs if (event := self._event_of(output))]
                events += self._roster.take_ends()
            self._send(events)

    def deliver(self, output: Any) -> None:
        """Ignore a failure: the library calls this for every request when its loop dies.

        The watchdog decides which sequences run again.
        """

    def flush(self) -> None:
        """Deliver the queued ends without a step."""
        self.deliver_batch([])

    def _event_of(self, output: StateOutput) -> StepEvent | None:
        sequence = self._roster.get(output.request_id)
        if sequence is None:
            self._cancel(output.request_id)  # the library forked it after its cancellation
            return None
        tokens = self._new_tokens(sequence, output)
        if not tokens:
            return None
        self.generated_tokens += len(tokens)
        self._counters.charge_output(sequence.request, len(tokens))
        sequence.is_cleared = True
        reason = None
        if output.is_finished:
            reason = finish_reason(sequence, tokens[-1], self._eos_ids)
            if reason == "stop":
                tokens.pop()
        logprobs = self._logprobs(sequence, output.request_id, tokens)
        if output.is_finished:
            self._roster.end(sequence)  # last: the roster forgets a sequence that ended
        sequence.tokens += tokens
        return StepEvent(
            sequence.handle,
            sequence.index,
            token_ids=tuple(tokens),
            finish_reason=reason,
            logprobs=logprobs,
        )

    def _new_tokens(self, sequence: Sequence, output: StateOutput) -> list[int]:
        """Return the tokens not delivered yet; a preempted state starts with earlier ones."""
        before = output.initial_length - sequence.prompt_length
        return output.tokens[len(sequence.tokens) - before :]

    def _logprobs(
        self, sequence: Sequence, library_id: str, tokens: list[int]
    ) -> tuple[TokenLogprob, ...]:
        count = sequence.request.sampling.logprobs
        if count is None:
            return ()
        return tuple(self._logprob_of(library_id, token, count) for token in tokens)

    def _send(self, events: list[StepEvent]) -> None:
        if not events:
            return
        try:
            self._deliver(events)
        except Exception:  # a receiver's error must not end the loop of all requests
            _log.exception("the receiver of events failed")


class SilentRouter(OutputRouter):
    """Drop all outputs, on a rank that does not lead: the leader delivers them."""

    def deliver_batch(self, outputs: list[Any]) -> None:
        pass

    def deliver(self, output: Any) -> None:
        pass
