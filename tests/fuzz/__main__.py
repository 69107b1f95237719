"""Fuzz targets for minutes with atheris: `python -m tests.fuzz [--seconds 300] [tokens ...]`.

The corpus of each target stays in `.cache/fuzz` for the next run. An input that breaks a target is
written to `test-output/fuzz`: `python -m tests.fuzz tokens --input FILE` runs it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.paths import ROOT

if TYPE_CHECKING:  # atheris must be the first to import its modules
    from tests.fuzz.target import Target

CORPORA = ROOT / ".cache" / "fuzz"
CRASHES = ROOT / "test-output" / "fuzz"
SECONDS = 60
MOST_BYTES = 64 * 1024
#: The bound of libFuzzer for one input. A target has a tighter bound on processor time.
INPUT_SECONDS = 20
MOST_MEMORY_MIB = 2048
MOST_ALLOCATION_MIB = 256
#: Packages whose branches atheris follows: ours, and libraries that parse in pure Python.
INSTRUMENTED = ("api", "admin_ui", "core", "worker", "werkzeug", "jwt", "flask_jwt_extended")
MISSING = """atheris is not installed: its wheels are for Linux on x86_64, Python 3.11 to 3.13.
`python -m pytest tests/fuzz` runs the same targets with hypothesis."""


def main() -> int:
    """Fuzz each target in its own process; return 1 if one broke."""
    args = _arguments()
    if args.input is not None:
        _named(args.targets[0]).check(args.input.read_bytes())
        return 0
    if find_spec("atheris") is None:
        print(MISSING, file=sys.stderr)
        return 2
    broken = [name for name in args.targets or target_names() if not _run(name, args.seconds)]
    if broken:
        print(f"Broken: {', '.join(broken)}; the inputs are in {CRASHES}", file=sys.stderr)
    return 1 if broken else 0


def target_names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return [target.name for target in TARGETS]


def fuzz_here(name: str, options: list[str]) -> None:
    """Run libFuzzer, which ends this process."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED, enable_loader_override=False):
        target = _named(name)
    for seed in target.seeds:
        target.check(seed)
    atheris.Setup([sys.argv[0], *options, *_prepared(target)], target.check)
    atheris.Fuzz()


def _named(name: str) -> Target:
    from tests.fuzz.targets import TARGETS

    return next(target for target in TARGETS if target.name == name)


def _run(name: str, seconds: int) -> bool:
    print(f"--- {name}: {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--here", f"--seconds={seconds}", name]
    return subprocess.run(command, cwd=ROOT, timeout=seconds * 2 + 300).returncode == 0


def _prepared(target: Target) -> list[str]:
    """Write a target's seeds and words for libFuzzer; return its arguments."""
    corpus = CORPORA / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    CRASHES.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = CORPORA / f"{target.name}.dict"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    return [
        *(f"-dict={words}", f"-artifact_prefix={CRASHES}/{target.name}-", f"-max_len={MOST_BYTES}"),
        *(f"-timeout={INPUT_SECONDS}", f"-rss_limit_mb={MOST_MEMORY_MIB}"),
        *(f"-malloc_limit_mb={MOST_ALLOCATION_MIB}", "-print_final_stats=1", "-len_control=20"),
        str(corpus),
    ]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="targets to run; all by default")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each target")
    parser.add_argument("--input", type=Path, help="run one target on this file, without atheris")
    parser.add_argument("--here", action="store_true", help="run one target in this process")
    return parser.parse_args()


if __name__ == "__main__":
    if "--here" in sys.argv:
        given = _arguments()
        fuzz_here(given.targets[0], [f"-max_total_time={given.seconds}"])
    sys.exit(main())
