"""Follows the text of a job while it is made, from any place in it, to its end.

News can be lost, a worker can die and another begin again: each piece says where it belongs, and
the row has the last word. So what was given before is never given again, nothing is left out, and
all pieces together are the stored text.
"""

from __future__ import annotations

import contextlib
import re
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import redis

from api.services import Services
from core.errors import ApiError, InvalidRequest
from core.events.job_commands import JobRequest, ask_worker
from core.events.job_events import TextPiece, Watch
from core.web.disconnect import ClientConnection
from models.database.base import DATABASE_AWAY
from models.jobs.job import Job

#: A comment is sent after this long without text, so that proxies keep the connection.
KEEP_ALIVE_SECONDS = 15.0
#: News of an end can be lost: the row is looked at this often.
RECHECK_SECONDS = 10.0
#: Between two looks at a database that is away: the job may have ended meanwhile.
AWAY_SECONDS = 0.5
#: After a gap, the worker is asked for the whole text at most this often.
ASK_SECONDS = 1.0
#: The longest event id that is looked at.
MAX_POSITION_LENGTH = 400
_POSITION = re.compile(r"0|([1-9][0-9]{0,8}|0):([0-9a-f]{1,8}):([0-9]{1,9})", re.ASCII)

Logprobs = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Delta:
    """What was added to one choice; `position` is where the whole stream stands after it."""

    index: int
    text: str
    logprobs: Logprobs | None
    position: str


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Nothing new for a while, or a client that must show whether it is there."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream's last: the job as it ended."""

    job: Job


@dataclass(slots=True)
class _SentText:
    """One choice's text as far as it was given. A piece costs the same however long that is.

    Attributes:
        begin: characters that were given to an earlier connection, and `check` their CRC-32.
        end: characters that were given, and `end_check` their CRC-32.
        tokens: log probabilities given.
    """

    begin: int = 0
    check: int = 0
    end: int = 0
    end_check: int = 0
    tokens: int = 0
    is_checked: bool = True
    _pieces: list[str] = field(default_factory=list)  # given since `begin`

    @property
    def position(self) -> str:
        """What an event's id says of this choice: characters, their check, log probabilities."""
        return f"{self.end}:{self.end_check:x}:{self.tokens}" if self.end or self.tokens else "0"

    @classmethod
    def at(cls, position: str) -> _SentText:
        """Return the track that stands where `position` says. Raises `InvalidRequest`."""
        found = _POSITION.fullmatch(position)
        if found is None:
            raise _bad_position()
        if position == "0":
            return cls()
        begin, check, tokens = int(found[1]), int(found[2], 16), int(found[3])
        return cls(begin, check, begin, check, tokens=tokens, is_checked=False)

    def take(self, piece: TextPiece) -> tuple[str, Logprobs | None] | None:
        """Return what is new in a piece; `None` if something between is missing."""
        if piece.offset > self.end or (piece.logprobs and piece.token_offset > self.tokens):
            return None
        if not self.is_checked and (piece.offset or len(piece.text) < self.begin):
            return None
        self._compare(piece)
        text = piece.text[self.end - piece.offset :]
        logprobs = None
        if piece.logprobs:
            logprobs = _cut(piece.logprobs, self.tokens - piece.token_offset)
            self.tokens += len(logprobs["tokens"]) if logprobs else 0
        if text:
            self._pieces.append(text)
            self.end += len(text)
            self.end_check = zlib.crc32(text.encode(), self.end_check)
        return text, logprobs

    def _compare(self, piece: TextPiece) -> None:
        """See that an attempt that began again says the same as what was given.

        Raises:
            ApiError: `stream_interrupted`, when it came out differently.
        """
        if not self.is_checked:
            self.is_checked = zlib.crc32(piece.text[: self.begin].encode()) == self.check
        begin = max(self.begin, piece.offset)
        said = piece.text[begin - piece.offset : self.end - piece.offset]
        if not self.is_checked or not self._given_from(begin).startswith(said):
            raise text_changed()

    def _given_from(self, begin: int) -> str:
        if begin >= self.end:  # as it is with each piece that follows on the one before
            return ""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0][begin - self.begin :]


@dataclass(slots=True)
class TextFollower:
    """One connection's way through the text of a job.

    Attributes:
        seconds: the longest that it goes on.
    """

    services: Services
    job: Job
    watch: Watch
    connection: ClientConnection
    seconds: float
    _tracks: list[_SentText] = field(default_factory=list)
    _asked_at: float = float("-inf")

    def resume_after(self, position: str | None) -> None:
        """Begin after the event with this id; without one at the beginning.

        Raises:
            InvalidRequest: it is no id of this job's events.
        """
        count = int(self.job.request.get("n", 1))
        if not position:
            self._tracks = [_SentText() for _ in range(count)]
            return
        parts = position.split("-")
        if len(position) > MAX_POSITION_LENGTH or len(parts) != count:
            raise _bad_position()
        self._tracks = [_SentText.at(part) for part in parts]

    def events(self) -> Iterator[Delta | KeepAlive | Ended]:
        """Give what is added until the job has ended, `Ended` last.

        It stops without `Ended` when the client or this process goes away, or its time is over.

        Raises:
            ApiError: the text cannot be followed to its end.
        """
        now = time.monotonic()
        over_at, look_at, said_at = now + self.seconds, now, now
        while not (self.connection.is_gone or self.watch.must_leave or now > over_at):
            for piece in self.watch.take():
                for delta in self._take(piece):
                    said_at = now
                    yield delta
            if self.watch.may_have_ended or now >= look_at:
                self.watch.may_have_ended = False
                look_at = now + (RECHECK_SECONDS if self._look() else AWAY_SECONDS)
                if self.job.is_final:
                    yield from self._rest()
                    yield Ended(self.job)
                    return
            if self.watch.has_gap and now - self._asked_at >= ASK_SECONDS:
                self._ask(now)
            if self.watch.wants_sign or now - said_at >= KEEP_ALIVE_SECONDS:
                self.watch.wants_sign, said_at = False, now
                yield KeepAlive()
            self.watch.changed.wait(self._patience(now, look_at, said_at))
            self.watch.changed.clear()
            now = time.monotonic()

    def _patience(self, now: float, look_at: float, said_at: float) -> float:
        times = [look_at, said_at + KEEP_ALIVE_SECONDS]
        if self.watch.has_gap:
            times.append(self._asked_at + ASK_SECONDS)
        return max(0.01, min(times) - now)

    def _take(self, piece: TextPiece) -> Iterator[Delta]:
        if piece.choice >= len(self._tracks):
            return
        found = self._tracks[piece.choice].take(piece)
        if found is None:
            self.watch.has_gap = True
            return
        if piece.offset == 0:
            self.watch.has_gap = False
        text, logprobs = found
        if text or logprobs:
            yield Delta(piece.choice, text, logprobs, self.position)

    def _rest(self) -> Iterator[Delta]:
        """Give what the row has beyond what was given."""
        for index, choice in enumerate(self.job.choices or ()):
            whole = TextPiece(
                job=self.job.id.hex,
                attempt=self.job.attempt,
                choice=index,
                offset=0,
                text=choice["text"],
                logprobs=choice.get("logprobs"),
            )
            if index < len(self._tracks) and len(whole.text) < self._tracks[index].end:
                raise text_changed()
            yield from self._take(whole)

    def _look(self) -> bool:
        """Read the row; false if the database is away: the job goes on, and so does the text."""
        try:
            self.job = self.services.jobs.reads.read_again(self.job)
        except DATABASE_AWAY:
            return False
        return True

    def _ask(self, now: float) -> None:
        """Ask the worker for the whole text: something was missed, or it was not told before."""
        self._asked_at = now
        with contextlib.suppress(redis.RedisError):  # asked again soon; the row comes in any case
            ask_worker(self.services.redis_client, JobRequest.TELL_TEXT, self.job.id)

    @property
    def position(self) -> str:
        """The id of an event that is sent now."""
        return "-".join(track.position for track in self._tracks)


def _cut(logprobs: Logprobs, begin: int) -> Logprobs | None:
    cut = {name: values[begin:] for name, values in logprobs.items()}
    return cut if cut["tokens"] else None


def text_changed() -> ApiError:
    """Return the error of a stream whose job was begun again and says something else now."""
    return ApiError(
        "the answer was begun again and came out differently: read the job for all of it",
        code="stream_interrupted",
    )


def _bad_position() -> InvalidRequest:
    return InvalidRequest("Last-Event-ID is not the id of an event of this job")
