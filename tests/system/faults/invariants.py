"""The invariants that hold after every run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text

from core.generation import Generation
from core.ids import Prefix, parse_id
from core.prompts.tokenizer import PromptTokenizer
from models.database.base import DATABASE_AWAY
from models.maintenance.consistency import begin_check, compare_batches, compare_jobs
from models.maintenance.rollup_consistency import compare_closed, compare_roll_ups
from tests.system.faults.installation.breakable import BreakableInstallation
from tests.system.faults.leftovers import Leftovers
from tests.system.faults.traffic.clients import FaultTraffic
from tests.system.faults.traffic.notes import (
    CONCURRENCY,
    CONCURRENT_CLIENTS,
    MONTHLY_TOKENS,
    RATE_LIMIT,
    Notes,
    SeenRequest,
)

#: Bound of the time in which accepted work ends, once all parts serve.
QUIET_SECONDS = 60.0
CHECK_SECONDS = 20.0
#: Errors of jobs that faults explain.
EXPLAINED_FAILURES = {"worker_lost", "queue_unavailable", "engine_error"}

#: Records each committed change of a job's state, so that a later change hides none.
RECORD_CHANGES = """
    create table fault_changes (
        id bigserial primary key, job_id uuid, old text, new text, attempt integer,
        at timestamptz not null default clock_timestamp()
    );
    create function note_change() returns trigger language plpgsql as $$
    begin
        insert into fault_changes (job_id, old, new, attempt)
        values (new.id, old.state, new.state, new.attempt);
        return new;
    end $$;
    create function note_begin() returns trigger language plpgsql as $$
    begin
        insert into fault_changes (job_id, new, attempt) values (new.id, new.state, 0);
        return new;
    end $$;
    create trigger note_begin after insert on jobs for each row execute function note_begin();
    create trigger note_change after update of state on jobs
        for each row when (old.state is distinct from new.state) execute function note_change();
"""
_FINAL = "('succeeded', 'failed', 'cancelled', 'expired')"


def record_changes(installation: BreakableInstallation) -> None:
    """Let the database record every change of a job's state."""
    with installation.sessions.begin() as session:
        session.execute(text(RECORD_CHANGES))


@dataclass(frozen=True, slots=True)
class Row:
    """A job as it ended."""

    id: UUID
    mark: str
    state: str
    text: str
    prompt_tokens: int
    completion_tokens: int
    attempt: int
    error: str | None
    key_id: UUID

    @property
    def was_refused(self) -> bool:
        """Whether its caller got 503 because the queue was away, and may retry."""
        return self.error == "queue_unavailable"


def wait_quiet(installation: BreakableInstallation) -> list[str]:
    """Wait until all accepted work has ended; return the rest after the time-out."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        left = _unfinished(installation)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _unfinished(installation: BreakableInstallation) -> list[str]:
    query = (
        f"select 'job ' || id || ' is ' || state || ', attempt ' || attempt"
        f" || ', held ' || is_held || ', lease ' || coalesce(lease_expires_at::text, 'none')"
        f" || ', now ' || now() from jobs where state not in {_FINAL}"
        " union all select 'batch ' || id || ' is ' || state from batches where finished_at is null"
    )
    try:
        with installation.sessions() as session:
            return list(session.scalars(text(query)))
    except DATABASE_AWAY as error:
        return [f"the database is away: {error}"]


class Invariants:
    """Checks an installation after each run."""

    def __init__(self, installation: BreakableInstallation) -> None:
        self._installation = installation
        self._tokenizer = PromptTokenizer.load(
            installation.settings.model_path, installation.settings.prompt_mode
        )
        self._leftovers = Leftovers(installation)

    def broken(self, traffic: FaultTraffic, *, losses: int) -> list[str]:
        """Return the broken invariants.

        Args:
            losses: how often Redis may have lost its counts.
        """
        notes = traffic.notes
        found_rows = sorted(self._rows(traffic), key=lambda row: not row.was_refused)
        rows = {row.mark: row for row in found_rows}
        found = [*notes.faults]
        found += self._of_rows(notes, rows, found_rows)
        found += self._of_batches(notes)
        found += self._of_changes(traffic)
        found += self._of_usage()
        found += self._of_limits(traffic, losses)
        found += self._leftovers.left(_key_ids(traffic))
        return found

    def _rows(self, traffic: FaultTraffic) -> list[Row]:
        with self._installation.sessions() as session:
            found = session.execute(
                text(
                    "select id, request->'metadata'->>'mark', state, choices->0->>'text',"
                    " prompt_tokens, completion_tokens, attempt, error->>'code', api_key_id"
                    " from jobs where api_key_id = any(:keys)"
                ),
                {"keys": _key_ids(traffic)},
            )
            return [
                Row(*(v if v is not None or i != 3 else "" for i, v in enumerate(one)))
                for one in found
            ]

    def _of_rows(self, notes: Notes, rows: dict[str, Row], found: Sequence[Row]) -> Iterator[str]:
        counts = Counter(row.mark for row in found if not row.was_refused)
        for mark, count in counts.items():
            if count > 1:
                yield f"the request {mark} became {count} jobs"
        for seen in notes.seen:
            row = rows.get(seen.mark)
            if row is None:
                if seen.job is not None:
                    yield f"{seen.kind} {seen.job} was accepted and is not there"
                continue
            yield from self._of_row(seen, row)

    def _of_row(self, seen: SeenRequest, row: Row) -> Iterator[str]:
        name = f"{seen.kind} {row.id.hex} ({row.state}, attempt {row.attempt})"
        if seen.job is not None and parse_id(Prefix.JOB, seen.job) != row.id:
            yield f"{name} has the id {seen.job} for its client"
        if seen.status not in (None, "queued", "running", row.state):
            yield f"{name} is {seen.status} for its client"
        if row.state == "failed" and row.error not in EXPLAINED_FAILURES:
            yield f"{name} failed with {row.error}"
        ids = self._tokenizer.encode(Generation(prompt=seen.prompt))
        completion = ids[: seen.max_tokens]
        if row.state in ("succeeded", "cancelled"):
            whole = self._tokenizer.decode(completion)
            if row.state == "succeeded" and row.text != whole:
                yield f"{name} has the text {row.text!r}, not {whole!r}"
            if not whole.startswith(row.text.rstrip("\ufffd")):
                yield f"{name} has the text {row.text!r}, not the beginning of {whole!r}"
        if row.state == "succeeded":
            counts = (row.prompt_tokens, row.completion_tokens)
            if counts != (len(ids), len(completion)):
                yield f"{name} counts {counts} tokens, not {(len(ids), len(completion))}"
        if row.state in ("succeeded", "cancelled") and not row.text.startswith(seen.text):
            yield f"{name} was streamed as {seen.text!r}, and is {row.text!r}"
        if row.state == "succeeded" and seen.is_whole and seen.usage is not None:
            received = (seen.usage["prompt_tokens"], seen.usage["completion_tokens"])
            if received != (row.prompt_tokens, row.completion_tokens):
                yield f"{name} has {received} tokens for its client"
        if seen.poison is not None and row.state == "succeeded":
            yield f"{name} is poisoned, and succeeded"

    def _of_batches(self, notes: Notes) -> Iterator[str]:
        with self._installation.sessions() as session:
            for batch in notes.batches:
                batch_id = parse_id(Prefix.BATCH, batch.id)
                found = session.execute(
                    text("select custom_id, count(*) from jobs where batch_id = :id group by 1"),
                    {"id": batch_id},
                )
                lines = {custom_id: count for custom_id, count in found}
                if lines != dict.fromkeys(batch.marks, 1):
                    yield f"{batch.id} has the lines {lines}"

    def _of_changes(self, traffic: FaultTraffic) -> Iterator[str]:
        """Find jobs that did not reach exactly one final state and stay there."""
        with self._installation.sessions() as session:
            wrong = session.execute(
                text(
                    "select job_id, string_agg(old || '>' || new || '@' || c.attempt, ', '"
                    " order by c.id) from fault_changes c"
                    " join jobs j on j.id = c.job_id where j.api_key_id = any(:keys)"
                    f" group by job_id having count(*) filter (where new in {_FINAL}) <> 1"
                    f" or bool_or(old in {_FINAL})"
                ),
                {"keys": _key_ids(traffic)},
            )
            for job_id, changes in wrong:
                yield f"job {job_id.hex} went {changes}"

    def _of_usage(self) -> Iterator[str]:
        with self._installation.sessions() as session:
            begin_check(session, timeout_seconds=CHECK_SECONDS)
            for compare in (compare_jobs, compare_roll_ups, compare_batches):
                for one in compare(session, since=None, until=None):
                    yield f"{one.subject}: {one.problem}"
            for one in compare_closed(session):
                yield f"{one.subject}: {one.problem}"
            leases = session.scalars(text("select id from jobs where lease_expires_at is not null"))
            for job_id in leases:
                yield f"job {job_id.hex} has ended and has a lease"

    def _of_limits(self, traffic: FaultTraffic, losses: int) -> Iterator[str]:
        """Find exceeded limits; each loss of Redis restarts the minute of the rate limit."""
        minutes = Counter(
            one.sent_at // 60
            for one in traffic.notes.granted
            if one.sent_at // 60 == one.received_at // 60
        )
        for minute, count in minutes.items():
            if count > RATE_LIMIT * (1 + losses):
                yield f"{count} requests were accepted in minute {minute}, of {RATE_LIMIT}"
        with self._installation.sessions() as session:
            used = session.scalar(
                text(
                    "select sum(prompt_tokens + completion_tokens) from usage"
                    " where api_key_id = :key"
                ),
                {"key": _key_id(traffic, "month")},
            )
            if (used or 0) > MONTHLY_TOKENS:
                yield f"{used} tokens were used, of {MONTHLY_TOKENS} in the month"
            most = session.scalar(
                text(_HIGHEST_CONCURRENCY), {"key": _key_id(traffic, "in flight")}
            )
            # A loss also loses the charges of jobs that are not committed yet.
            if (most or 0) > CONCURRENCY + losses * CONCURRENT_CLIENTS:
                yield f"{most} jobs were in flight at once, of {CONCURRENCY}"


#: The most jobs of a key that were in flight at once, by the moments of their rows and their ends
#: in the database. Both lie between the charge and its settling. A job that was inserted as ended
#: was never in flight.
_HIGHEST_CONCURRENCY = f"""
    with changes as (
        select c.at, case when c.old is null then 1 else -1 end as change
        from fault_changes c join jobs j on j.id = c.job_id
        where j.api_key_id = :key and (c.old is null) <> (c.new in {_FINAL})
    )
    select max(running) from (
        select sum(change) over (order by at, change) as running from changes
    ) as counted
"""


def _key_id(traffic: FaultTraffic, name: str) -> UUID:
    found = parse_id(Prefix.KEY, traffic.key_ids[name])
    assert found is not None
    return found


def _key_ids(traffic: FaultTraffic) -> list[UUID]:
    return [_key_id(traffic, name) for name in traffic.key_ids]
