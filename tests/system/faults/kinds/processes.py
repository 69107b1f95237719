"""Faults of workers, of the API and of their launcher."""

from __future__ import annotations

import signal

from tests.system.faults.installation.engine import Poison, StepFault
from tests.system.faults.kinds.scene import Do, Scene, Undo, freeze, nothing

KILL_SECONDS = 10.0
#: How far a clock steps, at most.
STEP_SECONDS = 7200.0


def kill_worker(scene: Scene) -> tuple[str, Undo]:
    return scene.send(scene.installation.workers(), signal.SIGKILL), nothing


def kill_api_process(scene: Scene) -> tuple[str, Undo]:
    return scene.send(scene.installation.api_processes()[1:], signal.SIGKILL), nothing


def kill_api(scene: Scene) -> tuple[str, Undo]:
    return scene.send(scene.installation.api_processes()[:1], signal.SIGKILL), nothing


def kill_launcher(scene: Scene) -> tuple[str, Undo]:
    launcher = scene.installation.up.process
    assert launcher is not None
    launcher.kill()
    launcher.wait(KILL_SECONDS)
    return "", nothing


def drain_worker(scene: Scene) -> tuple[str, Undo]:
    return scene.send(scene.installation.workers(), signal.SIGTERM), nothing


def freeze_worker(scene: Scene) -> tuple[str, Undo]:
    return freeze(scene.choose(scene.installation.workers()))


def freeze_api_process(scene: Scene) -> tuple[str, Undo]:
    return freeze(scene.choose(scene.installation.api_processes()[1:]))


def freeze_launcher(scene: Scene) -> tuple[str, Undo]:
    launcher = scene.installation.up.process
    return freeze([launcher.pid] if launcher is not None else [])


def freeze_all_workers(scene: Scene) -> tuple[str, Undo]:
    return freeze(scene.installation.workers())


def step_one_clock(scene: Scene) -> tuple[str, Undo]:
    installation = scene.installation
    pids = [*installation.workers(), *installation.api_processes()[1:]]
    return _step(scene, scene.draw.choice(pids) if pids else None)


def step_all_clocks(scene: Scene) -> tuple[str, Undo]:
    return _step(scene, None)


def _step(scene: Scene, pid: int | None) -> tuple[str, Undo]:
    seconds = scene.draw.uniform(-STEP_SECONDS, STEP_SECONDS)
    clocks = scene.installation.clocks
    clocks.step(pid, seconds)
    return f"{'all' if pid is None else pid} by {seconds:.0f} s", lambda: clocks.step(pid, 0)


def break_step(fault: StepFault) -> Do:
    """Return a fault of the next step of one worker's engine."""

    def do(scene: Scene) -> tuple[str, Undo]:
        pids = scene.choose(scene.installation.workers())
        for pid in pids:
            scene.installation.order(pid, fault)
        return str(pids), nothing

    return do


def send_poison(poison: Poison) -> Do:
    """Return a fault of the engine that runs a poisoned request."""

    def do(scene: Scene) -> tuple[str, Undo]:
        scene.traffic.send_poison(poison)
        return "", nothing

    return do
