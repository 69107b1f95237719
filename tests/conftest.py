"""The fixtures of all tests, as plugins, and the state of the processes that run them."""

from __future__ import annotations

import os
import signal

import hypothesis

pytest_plugins = [
    "tests.support.browser.costs",
    "tests.support.fixtures.clients",
    "tests.support.fixtures.prompts",
    "tests.support.fixtures.servers",
    "tests.support.fixtures.services",
    "tests.support.parallel",
    "tests.support.selection",
]
# Threads of torch that wait for each other sleep, here and in the programs that tests start: beside
# other tests they would keep the processor from the one they wait for. Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Each run has the same examples, so a new failure comes from the change at hand. Neither a busy
# machine nor a fixture that examples share is a fault. `--hypothesis-profile=default` is random.
hypothesis.settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("tests")
# A run in the background is begun with these ignored, and so would be all that it starts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
