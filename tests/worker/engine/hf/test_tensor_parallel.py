"""One model in two ranks: the same completions, and all end when one of them does.

The leader runs in a new process, like a worker. Torch cannot join a process group twice in one
process, and a crash of torch then fails one test, not the whole run.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from core.config.settings import Attention, Settings
from tests.support.engine.tiny import EOS_IDS, Receiver, build_model, complete, make_prompts
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.tools.check import check_model
from worker.engine.protocol import EngineRequest, EngineStopping, FinishReason, Sampling

RUN_ON = Sampling(ignore_eos=True)
#: Timeout of one run, beside other tests.
RUN_SECONDS = 300.0


def random_model() -> Any:
    model = build_model()
    model.lm_head.bias = None  # the architecture has none to load
    return model


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the saved random model."""
    directory = tmp_path_factory.mktemp("model")
    random_model().save_pretrained(directory)
    return directory


def in_own_process(run: Callable[..., None], *args: object) -> None:
    """Call a function of this module in a new process; its exception fails the test."""
    process = multiprocessing.get_context("spawn").Process(target=run, args=args)
    process.start()
    try:
        process.join(RUN_SECONDS)
        assert process.exitcode == 0, f"{run.__name__} ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()


@contextmanager
def split(
    path: Path, attention: Attention = Attention.CPU_FLASH, **options: Any
) -> Iterator[tuple[HFEngine, Receiver]]:
    """Run an engine over two ranks during a `with` block."""
    engine = HFEngine(
        model_path=str(path),
        attention=attention,
        options=LoopOptions(**{"page_size": 16, "cache_blocks": 128, **options}),
        threads=1,
        tensor_parallel=2,
    )
    receiver = Receiver()
    try:
        engine.start(receiver)
        yield engine, receiver
    finally:
        engine.stop()
    assert not receiver.faults


@pytest.mark.parametrize("attention", [Attention.CPU_FLASH, Attention.SDPA])
def test_completions_of_two_processes_equal_those_of_generate_one_by_one(
    path: Path, attention: Attention
) -> None:
    in_own_process(compare_completions, path, attention)


def compare_completions(path: Path, attention: Attention) -> None:
    model = random_model()
    made = make_prompts(12, 100, seed=3)
    expected = [complete(model, p, 20 + i) for i, p in enumerate(made)]
    seeded = EngineRequest("s", made[0], 20, Sampling(temperature=0.9, seed=3, ignore_eos=True))

    with split(
        path,
        attention,
        prefix_sharing=True,
        max_sequences=6,
        max_batch_tokens=64,
        cache_blocks=40,
    ) as (engine, receiver):
        receiver.wait(engine.submit(seeded))
        alone = receiver.tokens.pop(("s", 0))
        receiver.ends.clear()
        handles = [
            engine.submit(
                EngineRequest(f"r{i}", p, 20 + i, account=f"a{i % 3}", is_bulk=i % 4 == 0)
            )
            for i, p in enumerate(made)
        ]
        handles.append(engine.submit(EngineRequest("n", made[1], 20, n=3, account="n")))
        handles.append(engine.submit(seeded))
        gone = engine.submit(EngineRequest("gone", made[2], 300, RUN_ON, n=2, account="b"))
        receiver.wait_for_tokens(("gone", 1), 2)
        gone.cancel(0)
        receiver.wait_for_tokens(("gone", 1), 8)
        gone.cancel()
        receiver.wait(*handles, gone)
        wait_until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_use == 0
        assert engine.is_healthy

    assert [receiver.tokens[f"r{i}", 0] for i in range(12)] == expected
    assert [receiver.tokens["n", i] for i in range(3)] == [complete(model, made[1], 20)] * 3
    assert receiver.tokens["s", 0] == alone
    assert any(receiver.ends[f"r{i}", 0] is FinishReason.STOP for i in range(12)), EOS_IDS


def test_the_engine_is_unhealthy_when_one_process_dies(path: Path) -> None:
    in_own_process(kill_one, path)


def kill_one(path: Path) -> None:
    with split(path) as (engine, receiver):
        handle = engine.submit(EngineRequest("x", [1, 2], 400, RUN_ON))
        receiver.wait_for_tokens(("x", 0), 3)
        assert engine._ranks is not None
        (process,) = engine._ranks._processes
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not engine.is_healthy)
        with pytest.raises(EngineStopping):
            engine.submit(EngineRequest("y", [1], 5))
        handle.cancel()
        receiver.wait(handle)


def test_the_check_of_a_split_model_finds_it_right(path: Path) -> None:
    in_own_process(check, path)


def check(path: Path) -> None:
    unused = {"DATABASE_URL": "postgresql://unused/unused", "REDIS_URL": "redis://unused"}
    options = {"ENGINE_TENSOR_PARALLEL": "2", "ENGINE_THREADS": "1", "ENGINE_MAX_SEQUENCES": "8"}
    model = {"MODEL_PATH": str(path)}
    lines: list[str] = []

    assert check_model(Settings.from_environment({**unused, **options, **model}), lines.append)

    assert any("12 of 12 completions" in line for line in lines)


def test_no_process_is_left_after_a_stop(path: Path) -> None:
    in_own_process(stop_both, path)


def stop_both(path: Path) -> None:
    with split(path) as (engine, receiver):
        receiver.wait(engine.submit(EngineRequest("x", [1, 2], 5, RUN_ON)))
        assert engine._ranks is not None
        (process,) = engine._ranks._processes

    assert process.returncode == 0


def test_the_others_end_when_the_leader_is_killed(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.worker.engine.hf.test_tensor_parallel import *\n"
        "with split(Path(sys.argv[1])) as (engine, receiver):\n"
        "    print(engine._ranks._processes[0].pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
    )
    assert leader.stdin is not None and leader.stdout is not None
    pid = int(leader.stdout.readline())

    leader.kill()
    leader.communicate(timeout=10)

    wait_until(lambda: not is_running(pid))


def test_a_leader_ends_when_another_dies_before_all_run(tmp_path: Path) -> None:
    code = (
        "import sys, threading; from core.config.settings import Attention\n"
        "from worker.engine.hf.loop import LoopOptions\n"
        "from worker.engine.hf.rank_launcher import RankPlan, Ranks\n"
        "Ranks.start(RankPlan(sys.argv[1], 'auto', Attention.SDPA, 1, LoopOptions(), 2))\n"
        "threading.Event().wait()\n"
    )

    leader = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )

    assert leader.returncode == 1
    assert "ended before the model was loaded" in leader.stderr


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
