"""Turns what the library says after each step into one list of events, in the engine's thread."""

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

#: Gives the log probability of a token that the last step drew for a state, and of the best ones.
LogprobOf = Callable[[str, int, int], TokenLogprob]


class EventRouter(OutputRouter):
    """Stands in the library's place for outputs: a look-up per output, one delivery per step."""

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
        """Hand events to `deliver` from now on."""
        with self._delivering:
            self._deliver = deliver

    def deliver_batch(self, outputs: list[Any]) -> None:
        """Deliver what one step gave, and the ends that waited for it, as one list."""
        with self._delivering:
            with self._roster.lock:
                events = [event for output in outputs if (event := self._event_of(output))]
                events += self._roster.take_ends()
            self._send(events)

    def deliver(self, output: Any) -> None:
        """Ignore the library's failures: it fails all of its requests at once, guilty or not.

        The loop has died when this is called, and the engine's watch decides who runs again.
        """

    def flush(self) -> None:
        """Deliver ends that no step will carry."""
        self.deliver_batch([])

    def _event_of(self, output: StateOutput) -> StepEvent | None:
        sequence = self._roster.get(output.request_id)
        if sequence is None:
            self._cancel(output.request_id)  # it was forked after its cancellation was asked for
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
            self._roster.end(sequence)  # after its last tokens were looked at: it is known no more
        sequence.tokens += tokens
        return StepEvent(
            sequence.handle,
            sequence.index,
            token_ids=tuple(tokens),
            finish_reason=reason,
            logprobs=logprobs,
        )

    def _new_tokens(self, sequence: Sequence, output: StateOutput) -> list[int]:
        """Return the tokens not handed over yet; a preempted state has some in its prompt."""
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
        except Exception:  # the receiver's fault must not end the loop of everybody's requests
            _log.exception("the receiver of events failed")


class SilentRouter(OutputRouter):
    """Tells nobody: what another process hears of already."""

    def deliver_batch(self, outputs: list[Any]) -> None:
        pass

    def deliver(self, output: Any) -> None:
        pass
