"""Measures the cost of clients that only wait. `python -m tests.bench.waiting`

1,000 synchronous waits and 500 streams are open at once over two API processes; the echo engine is
slow. The figures are the memory of each process, the connections, and the latency of other requests
with and without the waiting clients.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.bench.servers import MODEL, own_servers
from tests.support.http.waiting_clients import hold
from tests.support.service import Service

CALLS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    environment = {"ENGINE": "echo", "ECHO_TOKENS_PER_SECOND": "0.2", "LOG_LEVEL": "WARNING"}
    with (
        own_servers(args.model, **environment) as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        secret = service.make_key(rateLimit=1_000_000)["secret"]
        idle = hold(service, secret, waits=0, streams=0, calls=CALLS)
        held = hold(service, secret, waits=1000, streams=500, calls=CALLS)
    for name, seen in (("none wait", idle), ("1,500 wait", held)):
        memory = ", ".join(f"{size:.0f}" for size in seen.memory_mib)
        print(f"{name}: API processes {memory} MiB, {seen.redis_connections} connections to Redis,")
        print(f"  {seen.database_connections} to PostgreSQL; other calls, median and p99:", end=" ")
        print(f"{seen.percentile_ms(50):.1f} and {seen.percentile_ms(99):.1f} ms")
    ratio = held.percentile_ms(99) / idle.percentile_ms(99)
    print(f"p99 of other calls while 1,500 wait over that while none wait: {ratio:.1f}")


if __name__ == "__main__":
    main()
