"""The load generator itself: its figures are worthless if it miscounts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from models.database.base import open_database, sessions
from tests.bench.load.arrivals import Load
from tests.bench.load.callers import add_callers
from tests.bench.load.connection import BrokenResponse, Connections, ResponseParser
from tests.bench.load.mix import BATCH_LINES, SHARES, Call, Kind, Mix, encode
from tests.bench.load.processes import CpuUse
from tests.bench.load.search import CLOSE_ENOUGH, Step, highest_rate
from tests.bench.load.tally import Outcome, Tally
from tests.support.polling import wait_until
from tests.support.service import Service

CALLERS = 20
STALL_SECONDS = 0.5
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"e\r\ndata: [DONE]\n\n\r\n5\r\nright\r\n0\r\n\r\n"
)


@pytest.fixture
def engine(service: Service) -> Iterator[Engine]:
    engine = open_database(service.settings)
    yield engine
    engine.dispose()


def test_counts_of_calls_equal_those_of_the_database(service: Service, engine: Engine) -> None:
    with sessions(engine).begin() as session:
        mix = Mix(add_callers(session, CALLERS), shares={**SHARES, Kind.BATCH: 3.0})

    async def run() -> Tally:
        connections = Connections(service.settings.api_port, timeout_seconds=60)
        load = Load(mix, connections, pace=0.0)
        tally = await load.run([(40.0, 3.0)])
        await load.close()
        return tally

    tally = asyncio.run(run())

    assert tally.outcomes and not tally.wrong and not tally.shed
    assert all(tally.count(kind) for kind in (Kind.GENERATE, Kind.STREAM, Kind.JOB, Kind.POLL))

    def read(query: str) -> int:
        with engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one() or 0)

    wait_until(lambda: read("select count(*) from jobs where finished_at is null") == 0, 30)
    jobs = tally.count(Kind.GENERATE, Kind.STREAM, Kind.JOB)
    lines = BATCH_LINES * tally.count(Kind.BATCH)
    tokens = sum(outcome.tokens for outcome in tally.done)
    succeeded = "select count(*) from jobs where state = 'succeeded' and batch_id is"
    used = "select sum(completion_tokens) from usage where job_id in"
    assert read(f"{succeeded} null") == read("select count(*) from jobs where batch_id is null")
    assert (read(f"{succeeded} null"), read(f"{succeeded} not null")) == (jobs, lines)
    assert read(f"{used} (select id from jobs where batch_id is null)") == tokens


def test_a_stalled_service_is_charged_for_every_call_due_during_the_stall() -> None:
    async def run() -> Tally:
        stalled = asyncio.Event()
        serving: set[asyncio.Task[None] | None] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.add(asyncio.current_task())
            while await reader.readline():
                while (await reader.readline()).strip():
                    pass
                await stalled.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        asyncio.get_running_loop().call_later(STALL_SECONDS, stalled.set)
        connections = Connections(server.sockets[0].getsockname()[1], timeout_seconds=10)
        tally = await Load(_Regular(), connections, pace=0.0).run([(100.0, STALL_SECONDS)])
        await connections.close()
        server.close()
        await asyncio.gather(*filter(None, serving))
        return tally

    tally = asyncio.run(run())

    assert len(tally.done) == len(tally.outcomes) >= 49
    for outcome in tally.outcomes:
        assert outcome.added_ms >= 1000 * (STALL_SECONDS - outcome.planned_at) - 20
    assert tally.added_ms(50) > 1000 * STALL_SECONDS / 3


class _Regular:
    """The same call at even intervals."""

    def draw(self) -> Call:
        return Call(Kind.LIMITS, "secret", encode("GET", "/", "secret"))

    def wait_seconds(self, rate: float) -> float:
        return 1 / rate


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_response_is_whole_only_with_its_last_byte_in_pieces_of_any_size(size: int) -> None:
    parser = ResponseParser()
    pieces = [CHUNKED[n : n + size] for n in range(0, len(CHUNKED), size)]

    assert not any(parser.receive(piece) for piece in pieces[:-1])
    assert parser.receive(pieces[-1])
    assert (parser.response.status, parser.response.body) == (200, b"data: [DONE]\n\nright")
    assert parser.response.done_at >= parser.response.first_at > 0


def test_bytes_that_are_not_http_are_a_broken_response() -> None:
    with pytest.raises(BrokenResponse):
        ResponseParser().receive(b"HELLO\r\n\r\n")


def test_a_refusal_without_retry_after_is_wrong() -> None:
    with_hint = Outcome(Kind.GENERATE, 503, 0.0, says_when=True)
    without_hint = Outcome(Kind.GENERATE, 503, 0.0)
    short = Outcome(Kind.GENERATE, 200, 0.0, fault="3 tokens instead of 4")
    tally = Tally(
        [with_hint, without_hint, short, Outcome(Kind.JOB, 202, 0.0), Outcome(Kind.JOB, 200, 0.0)]
    )

    assert (len(tally.done), len(tally.shed)) == (1, 2)
    assert tally.wrong == [without_hint, short, tally.outcomes[-1]]


@pytest.mark.parametrize("limit", [3.0, 9.0, 40.0, 333.0])
def test_the_search_ends_close_to_the_limit_and_never_over_it(limit: float) -> None:
    async def try_rate(rate: float) -> Step:
        return Step(rate, Tally(), CpuUse(1.0, {}), rate <= limit)

    found, steps = asyncio.run(highest_rate(try_rate, start=10.0, report=lambda step: None))

    assert found == 0 if limit < 5 else limit / (1 + CLOSE_ENOUGH) ** 2 <= found <= limit
    assert len(steps) < 25
