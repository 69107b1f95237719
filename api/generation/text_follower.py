"""Follows the text of a running job from any position to its end.

Events can be lost, and another worker can begin the job again after one died. Each piece of text
therefore has its offset, and the row is authoritative. A stream never repeats or omits text, and
its pieces together are the stored text.
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
from core.events.job_commands import JobCommand, send_command
from core.events.job_events import JobWatch, TextPiece
from core.web.disconnect import ClientConnection
from models.database.base import DATABASE_AWAY
from models.jobs.job import Job

#: Seconds without text after which a comment is sent, so that proxies keep the connection.
KEEP_ALIVE_SECONDS = 15.0
#: Seconds between two reads of the row: the event of an end can be lost.
RECHECK_SECONDS = 10.0
#: Seconds between two reads while the database is away.
AWAY_SECONDS = 0.5
#: Seconds between two requests to the worker for the whole text, after a gap.
TEXT_REQUEST_SECONDS = 1.0
#: Characters of the longest event id that is parsed.
MAX_POSITION_LENGTH = 400
_POSITION = re.compile(r"0|([1-9][0-9]{0,8}|0):([0-9a-f]{1,8}):([0-9]{1,9})", re.ASCII)

Logprobs = dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class Delta:
    """Text added to one choice; `position` is that of the whole stream after it."""

    index: int
    text: str
    logprobs: Logprobs | None
    position: str


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """A comment: no text came for a while, or the connection of the client is to be tested."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last event of a stream: the job as it ended."""

    job: Job


@dataclass(slots=True)
class _SentText:
    """The text of one choice that the client has.

    A piece costs the same time however long the sent text is.

    Attributes:
        start: characters that earlier connections sent; `start_crc` is their CRC-32.
        end: characters sent in all; `end_crc` is their CRC-32.
        tokens: log probabilities sent.
        is_verified: the job's text begins with the first `start` characters.
    """

    start: int = 0
    start_crc: int = 0
    end: int = 0
    end_crc: int = 0
    tokens: int = 0
    is_verified: bool = True
    _pieces: list[str] = field(default_factory=list)  # sent after `start`

    @property
    def position(self) -> str:
        """This choice in an event's id: characters, their CRC-32, log probabilities."""
        return f"{self.end}:{self.end_crc:x}:{self.tokens}" if self.end or self.tokens else "0"

    @classmethod
    def at(cls, position: str) -> _SentText:
        """Return the text that a client at `position` has. Raises `InvalidRequest`."""
        found = _POSITION.fullmatch(position)
        if found is None:
            raise _bad_position()
        if position == "0":
            return cls()
        start, start_crc, tokens = int(found[1]), int(found[2], 16), int(found[3])
        return cls(start, start_crc, start, start_crc, tokens=tokens, is_verified=False)

    def take(self, piece: TextPiece) -> tuple[str, Logprobs | None] | None:
        """Return the new text and log probabilities of a piece; `None` after a gap."""
        if piece.offset > self.end or (piece.logprobs and piece.token_offset > self.tokens):
            return None
        if not self.is_verified and (piece.offset or len(piece.text) < self.start):
            return None
        self._verify(piece)
        text = piece.text[self.end - piece.offset :]
        logprobs = None
        if piece.logprobs:
            logprobs = _cut_logprobs(piece.logprobs, self.tokens - piece.token_offset)
            self.tokens += len(logprobs["tokens"]) if logprobs else 0
        if text:
            self._pieces.append(text)
            self.end += len(text)
            self.end_crc = zlib.crc32(text.encode(), self.end_crc)
        return text, logprobs

    def _verify(self, piece: TextPiece) -> None:
        """Check that a later attempt repeats the text that was sent.

        Raises:
            ApiError: `stream_interrupted`, if the text differs.
        """
        if not self.is_verified:
            self.is_verified = zlib.crc32(piece.text[: self.start].encode()) == self.start_crc
        begin = max(self.start, piece.offset)
        repeated = piece.text[begin - piece.offset : self.end - piece.offset]
        if not self.is_verified or not self._sent_from(begin).startswith(repeated):
            raise text_changed()

    def _sent_from(self, begin: int) -> str:
        if begin >= self.end:  # true for each piece that continues the one before
            return ""
        self._pieces = ["".join(self._pieces)]
        return self._pieces[0][begin - self.start :]


@dataclass(slots=True)
class TextFollower:
    """The stream of one job's text to one connection.

    Attributes:
        seconds: the longest time that the stream may take.
    """

    services: Services
    job: Job
    watch: JobWatch
    connection: ClientConnection
    seconds: float
    _choices: list[_SentText] = field(default_factory=list)
    _requested_at: float = float("-inf")

    def resume_after(self, position: str | None) -> None:
        """Begin after the event with this id, or at the start of the text without an id.

        Raises:
            InvalidRequest: `position` is not the id of an event of this job.
        """
        count = int(self.job.request.get("n", 1))
        if not position:
            self._choices = [_SentText() for _ in range(count)]
            return
        positions = position.split("-")
        if len(position) > MAX_POSITION_LENGTH or len(positions) != count:
            raise _bad_position()
        self._choices = [_SentText.at(text) for text in positions]

    def events(self) -> Iterator[Delta | KeepAlive | Ended]:
        """Yield the text as it is added, and `Ended` when the job has ended.

        Stops without `Ended` when the client disconnects, this process leaves, or `seconds` are
        over.

        Raises:
            ApiError: the text cannot be followed to its end.
        """
        now = time.monotonic()
        ends_at, read_at, sent_at = now + self.seconds, now, now
        while not (self.connection.is_gone or self.watch.must_end or now > ends_at):
            for piece in self.watch.take():
                for delta in self._take(piece):
                    sent_at = now
                    yield delta
            if self.watch.may_have_ended or now >= read_at:
                self.watch.may_have_ended = False
                read_at = now + (RECHECK_SECONDS if self._read_row() else AWAY_SECONDS)
                if self.job.is_final:
                    yield from self._remaining_text()
                    yield Ended(self.job)
                    return
            if self.watch.has_gap and now - self._requested_at >= TEXT_REQUEST_SECONDS:
                self._request_text(now)
            if self.watch.wants_probe or now - sent_at >= KEEP_ALIVE_SECONDS:
                self.watch.wants_probe, sent_at = False, now
                yield KeepAlive()
            self.watch.changed.wait(self._seconds_to_wait(now, read_at, sent_at))
            self.watch.changed.clear()
            now = time.monotonic()

    def _seconds_to_wait(self, now: float, read_at: float, sent_at: float) -> float:
        times = [read_at, sent_at + KEEP_ALIVE_SECONDS]
        if self.watch.has_gap:
            times.append(self._requested_at + TEXT_REQUEST_SECONDS)
        return max(0.01, min(times) - now)

    def _take(self, piece: TextPiece) -> Iterator[Delta]:
        if piece.choice >= len(self._choices):
            return
        found = self._choices[piece.choice].take(piece)
        if found is None:
            self.watch.has_gap = True
            return
        if piece.offset == 0:
            self.watch.has_gap = False
        text, logprobs = found
        if text or logprobs:
            yield Delta(piece.choice, text, logprobs, self.position)

    def _remaining_text(self) -> Iterator[Delta]:
        """Yield the text of the row that was not sent."""
        for index, choice in enumerate(self.job.choices or ()):
            whole = TextPiece(
                job=self.job.id.hex,
                attempt=self.job.attempt,
                choice=index,
                offset=0,
                text=choice["text"],
                logprobs=choice.get("logprobs"),
            )
            if index < len(self._choices) and len(whole.text) < self._choices[index].end:
                raise text_changed()
            yield from self._take(whole)

    def _read_row(self) -> bool:
        """Read the row; return False while the database is away: the stream continues."""
        try:
            self.job = self.services.jobs.reads.reload(self.job)
        except DATABASE_AWAY:
            return False
        return True

    def _request_text(self, now: float) -> None:
        """Ask the worker for the whole text: pieces were lost or published before the stream."""
        self._requested_at = now
        with contextlib.suppress(
            redis.RedisError
        ):  # the request is repeated soon, and the row has the text at the end
            send_command(self.services.redis_client, JobCommand.SEND_TEXT, self.job.id)

    @property
    def position(self) -> str:
        """The id of an event at the current position."""
        return "-".join(choice.position for choice in self._choices)


def _cut_logprobs(logprobs: Logprobs, begin: int) -> Logprobs | None:
    cut = {name: values[begin:] for name, values in logprobs.items()}
    return cut if cut["tokens"] else None


def text_changed() -> ApiError:
    """Return the error of a stream whose job was retried with a different text."""
    return ApiError(
        "the job was retried and its text came out differently: read the job for the whole text",
        code="stream_interrupted",
    )


def _bad_position() -> InvalidRequest:
    return InvalidRequest("Last-Event-ID is not the id of an event of this job")
