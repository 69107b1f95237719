"""What must hold after every run, whatever was broken in it."""

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
from tests.system.faults.instance import Instance
from tests.system.faults.leftovers import Leftovers
from tests.system.faults.traffic import (
    IN_FLIGHT_CLIENTS,
    IN_FLIGHT_LIMIT,
    MONTHLY_TOKENS,
    RATE_LIMIT,
    Notes,
    Seen,
    Traffic,
)

#: How long accepted work may take to end, once all parts serve again.
QUIET_SECONDS = 60.0
CHECK_SECONDS = 20.0
#: Ends of jobs that faults explain.
EXPLAINED_FAILURES = {"worker_lost", "queue_unavailable", "engine_error"}

#: Notes each change of a job's state that is committed, so that none is undone unseen.
WATCH = """
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


def watch_changes(instance: Instance) -> None:
    """Let the database note every change of a job's state."""
    with instance.sessions.begin() as session:
        session.execute(text(WATCH))


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
        """Whether its caller got a 503, and may ask again: the queue was away."""
        return self.error == "queue_unavailable"


def wait_quiet(instance: Instance) -> list[str]:
    """Wait until everything accepted has ended; return what has not."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        left = _unfinished(instance)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)


def _unfinished(instance: Instance) -> list[str]:
    query = (
        f"select 'job ' || id || ' is ' || state || ', attempt ' || attempt"
        f" || ', held ' || is_held || ', lease ' || coalesce(lease_expires_at::text, 'none')"
        f" || ', now ' || now() from jobs where state not in {_FINAL}"
        " union all select 'batch ' || id || ' is ' || state from batches where finished_at is null"
    )
    try:
        with instance.sessions() as session:
            return list(session.scalars(text(query)))
    except DATABASE_AWAY as error:
        return [f"the database is away: {error}"]


class Invariants:
    """Checks an instance after each run."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._tokenizer = PromptTokenizer.load(
            instance.settings.model_path, instance.settings.prompt_mode
        )
        self._leftovers = Leftovers(instance)

    def broken(self, traffic: Traffic, *, losses: int) -> list[str]:
        """Return what does not hold.

        Args:
            losses: times that Redis may have forgotten what it counted.
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

    # Jobs.

    def _rows(self, traffic: Traffic) -> list[Row]:
        with self._instance.sessions() as session:
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

    def _of_row(self, seen: Seen, row: Row) -> Iterator[str]:
        name = f"{seen.kind} {row.id.hex} ({row.state}, attempt {row.attempt})"
        if seen.job is not None and parse_id(Prefix.JOB, seen.job) != row.id:
            yield f"{name} was shown as {seen.job}"
        if seen.status not in (None, "queued", "running", row.state):
            yield f"{name} was told to its client as {seen.status}"
        if row.state == "failed" and row.error not in EXPLAINED_FAILURES:
            yield f"{name} failed with {row.error}"
        ids = self._tokenizer.encode(Generation(prompt=seen.prompt))
        answer = ids[: seen.max_tokens]
        if row.state in ("succeeded", "cancelled"):
            whole = self._tokenizer.decode(answer)
            if row.state == "succeeded" and row.text != whole:
                yield f"{name} has the text {row.text!r}, not {whole!r}"
            if not whole.startswith(row.text.rstrip("\ufffd")):
                yield f"{name} has the text {row.text!r}, not the beginning of {whole!r}"
        if row.state == "succeeded":
            counts = (row.prompt_tokens, row.completion_tokens)
            if counts != (len(ids), len(answer)):
                yield f"{name} counts {counts} tokens, not {(len(ids), len(answer))}"
        if row.state in ("succeeded", "cancelled") and not row.text.startswith(seen.text):
            yield f"{name} was streamed as {seen.text!r}, and is {row.text!r}"
        if row.state == "succeeded" and seen.is_whole and seen.usage is not None:
            told = (seen.usage["prompt_tokens"], seen.usage["completion_tokens"])
            if told != (row.prompt_tokens, row.completion_tokens):
                yield f"{name} was told with {told} tokens"
        if seen.poison is not None and row.state == "succeeded":
            yield f"{name} is poisoned, and succeeded"

    def _of_batches(self, notes: Notes) -> Iterator[str]:
        with self._instance.sessions() as session:
            for batch in notes.batches:
                batch_id = parse_id(Prefix.BATCH, batch.id)
                found = session.execute(
                    text("select custom_id, count(*) from jobs where batch_id = :id group by 1"),
                    {"id": batch_id},
                )
                lines = {custom_id: count for custom_id, count in found}
                if lines != dict.fromkeys(batch.marks, 1):
                    yield f"{batch.id} has the lines {lines}"

    def _of_changes(self, traffic: Traffic) -> Iterator[str]:
        """Each job reached one final state, once, and stayed there."""
        with self._instance.sessions() as session:
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

    # Sums.

    def _of_usage(self) -> Iterator[str]:
        with self._instance.sessions() as session:
            begin_check(session, timeout_seconds=CHECK_SECONDS)
            for compare in (compare_jobs, compare_roll_ups, compare_batches):
                for one in compare(session, since=None, until=None):
                    yield f"{one.subject}: {one.problem}"
            for one in compare_closed(session):
                yield f"{one.subject}: {one.problem}"
            leases = session.scalars(text("select id from jobs where lease_expires_at is not null"))
            for job_id in leases:
                yield f"job {job_id.hex} has ended and has a lease"

    # Limits.

    def _of_limits(self, traffic: Traffic, losses: int) -> Iterator[str]:
        """The minute begins anew when Redis has lost it: that often more may have been granted."""
        minutes = Counter(
            one.sent_at // 60
            for one in traffic.notes.granted
            if one.sent_at // 60 == one.received_at // 60
        )
        for minute, count in minutes.items():
            if count > RATE_LIMIT * (1 + losses):
                yield f"{count} requests were accepted in minute {minute}, of {RATE_LIMIT}"
        with self._instance.sessions() as session:
            used = session.scalar(
                text(
                    "select sum(prompt_tokens + completion_tokens) from usage"
                    " where api_key_id = :key"
                ),
                {"key": _key_id(traffic, "month")},
            )
            if (used or 0) > MONTHLY_TOKENS:
                yield f"{used} tokens were used, of {MONTHLY_TOKENS} in the month"
            most = session.scalar(text(_MOST_IN_FLIGHT), {"key": _key_id(traffic, "in flight")})
            # What was charged as Redis was emptied, and not committed yet, is not read back.
            if (most or 0) > IN_FLIGHT_LIMIT + losses * IN_FLIGHT_CLIENTS:
                yield f"{most} jobs were in flight at once, of {IN_FLIGHT_LIMIT}"


#: How many jobs of a key were in flight at once: by the moments at which the database took their
#: rows and their ends, which lie between the charge and its settling. One that comes as ended was
#: never in flight.
_MOST_IN_FLIGHT = f"""
    with changes as (
        select c.at, case when c.old is null then 1 else -1 end as change
        from fault_changes c join jobs j on j.id = c.job_id
        where j.api_key_id = :key and (c.old is null) <> (c.new in {_FINAL})
    )
    select max(running) from (
        select sum(change) over (order by at, change) as running from changes
    ) as counted
"""


def _key_id(traffic: Traffic, name: str) -> UUID:
    found = parse_id(Prefix.KEY, traffic.keys[name]["id"])
    assert found is not None
    return found


def _key_ids(traffic: Traffic) -> list[UUID]:
    return [_key_id(traffic, name) for name in traffic.keys]
