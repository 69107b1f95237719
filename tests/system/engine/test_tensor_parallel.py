"""One model in two ranks gives the same completions, and both ranks end when one of them does.

The leader runs in a new process, like a worker: Torch cannot join a process group twice in one
process. A crash of torch then fails one test only.
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
from tests.support.engine.running_engine import Receiver
from tests.support.engine.tiny_model import EOS_IDS, build_model, complete, make_prompts
from tests.support.paths import ROOT
from tests.support.polling import wait_until
from worker.engine.hf.engine import HFEngine
from worker.engine.hf.loop import LoopOptions
from worker.engine.hf.tools.check import check_model
from worker.engine.protocol import EngineRequest, EngineStopping, FinishReason, Sampling

IGNORE_EOS = Sampling(ignore_eos=True)
#: Timeout of one process, while other tests use the machine.
PROCESS_SECONDS = 300.0


def random_model() -> Any:
    model = build_model()
    model.lm_head.bias = None  # the architecture has none to load
    return model


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory of the saved random model."""
    directory = tmp_path_factory.mktemp("model")
    random_model().save_pretrained(directory)
    return directory


def in_new_process(run: Callable[..., None], *args: object) -> None:
    """Call a function of this module in a new process; its exception fails the test."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=run, args=args)
    process.start()
    try:
        process.join(PROCESS_SECONDS)
        assert process.exitcode == 0, f"{run.__name__} ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()


@contextmanager
def running_on_two_ranks(
    model_path: Path, attention: Attention = Attention.CPU_FLASH, **options: Any
) -> Iterator[tuple[HFEngine, Receiver]]:
    """Run an engine on two ranks during a `with` block."""
    engine = HFEngine(
        model_path=str(model_path),
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
def test_completions_of_two_ranks_equal_those_of_generate_and_no_rank_is_left(
    model_path: Path, attention: Attention
) -> None:
    in_new_process(compare_completions, model_path, attention)


def compare_completions(model_path: Path, attention: Attention) -> None:
    model = random_model()
    prompts = make_prompts(12, 100, seed=3)
    expected = [complete(model, p, 20 + i) for i, p in enumerate(prompts)]
    seeded = EngineRequest("s", prompts[0], 20, Sampling(temperature=0.9, seed=3, ignore_eos=True))

    with running_on_two_ranks(
        model_path,
        attention,
        prefix_sharing=True,
        max_sequences=6,
        max_batch_tokens=64,
        cache_blocks=40,
    ) as (engine, receiver):
        receiver.wait(engine.submit(seeded))
        alone = receiver.tokens["s", 0]
        receiver.forget()
        handles = [
            engine.submit(
                EngineRequest(f"r{i}", p, 20 + i, account=f"a{i % 3}", is_bulk=i % 4 == 0)
            )
            for i, p in enumerate(prompts)
        ]
        handles.append(engine.submit(EngineRequest("n", prompts[1], 20, n=3, account="n")))
        handles.append(engine.submit(seeded))
        cancelled = engine.submit(
            EngineRequest("cancelled", prompts[2], 300, IGNORE_EOS, n=2, account="b")
        )
        receiver.wait_for_tokens(("cancelled", 1), 2)
        cancelled.cancel(0)
        receiver.wait_for_tokens(("cancelled", 1), 8)
        cancelled.cancel()
        receiver.wait(*handles, cancelled)
        wait_until(lambda: engine.stats().running == 0)
        assert engine.stats().cache_use == 0
        assert engine.is_healthy
        assert engine._ranks is not None
        (other_rank,) = engine._ranks._processes

    assert other_rank.returncode == 0
    assert [receiver.tokens[f"r{i}", 0] for i in range(12)] == expected
    assert [receiver.tokens["n", i] for i in range(3)] == [complete(model, prompts[1], 20)] * 3
    assert receiver.tokens["s", 0] == alone
    assert any(receiver.ends[f"r{i}", 0] is FinishReason.STOP for i in range(12)), EOS_IDS


def test_the_engine_is_unhealthy_when_one_rank_dies(model_path: Path) -> None:
    in_new_process(kill_one_rank, model_path)


def kill_one_rank(model_path: Path) -> None:
    with running_on_two_ranks(model_path) as (engine, receiver):
        handle = engine.submit(EngineRequest("x", [1, 2], 400, IGNORE_EOS))
        receiver.wait_for_tokens(("x", 0), 3)
        assert engine._ranks is not None
        (process,) = engine._ranks._processes
        os.kill(process.pid, signal.SIGKILL)
        wait_until(lambda: not engine.is_healthy)
        with pytest.raises(EngineStopping):
            engine.submit(EngineRequest("y", [1], 5))
        handle.cancel()
        receiver.wait(handle)


def test_the_check_of_a_model_on_two_ranks_passes(model_path: Path) -> None:
    in_new_process(check_two_ranks, model_path)


def check_two_ranks(model_path: Path) -> None:
    unused = {"DATABASE_URL": "postgresql://unused/unused", "REDIS_URL": "redis://unused"}
    options = {"ENGINE_TENSOR_PARALLEL": "2", "ENGINE_THREADS": "1", "ENGINE_MAX_SEQUENCES": "8"}
    model = {"MODEL_PATH": str(model_path)}
    report: list[str] = []

    assert check_model(Settings.from_environment({**unused, **options, **model}), report.append)

    assert "12 of 12 completions" in "\n".join(report)


def test_the_other_rank_ends_when_the_leader_is_killed(model_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.system.engine.test_tensor_parallel import *\n"
        "with running_on_two_ranks(Path(sys.argv[1])) as (engine, receiver):\n"
        "    print(engine._ranks._processes[0].pid, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    leader = subprocess.Popen(
        [sys.executable, "-c", code, str(model_path)],
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


def test_a_leader_ends_when_another_rank_dies_before_the_model_is_loaded(tmp_path: Path) -> None:
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
