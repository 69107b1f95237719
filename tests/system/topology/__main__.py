"""The whole production topology, each part drained and replaced. `python -m tests.system.topology`

Everything runs on this machine with the configuration that we ship, clients of every kind ask
through NGINX, and one part after the other is drained and replaced. At the end it is counted: each
job that a client was told of is there, ended, once, with one row of usage; nothing was made twice;
nothing was refused but while a part was away that is there once. The exit code is 1 if not.
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
    parser.add_argument("--rounds", type=int, default=3, help="replace every part so many times")
    parser.add_argument("--clients", type=int, default=2, help="of each kind")
    parser.add_argument("--model", type=Path, default=MODEL, help="a directory with a tokenizer")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        report = run_rounds(Path(name), args.model, rounds=args.rounds, clients=args.clients)
    print(report.text())
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
