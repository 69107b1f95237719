"""Replaces each part of the production topology under load. `python -m tests.system.topology`

All parts run on this machine with the shipped configuration. Clients of every kind call through
NGINX while one part after the other is drained and replaced. At the end the program compares the
rows with the clients' records: each job that a client knows has ended once and has one row of
usage, no job was made twice, and only the replacement of a part that exists once refused requests.
The exit code is 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bench.servers import MODEL
from tests.system.topology.run import run_rounds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often every part is replaced")
    parser.add_argument("--clients", type=int, default=2, help="of each kind")
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = run_rounds(Path(name), args.model, rounds=args.rounds, clients=args.clients)
    print(report.text())
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
