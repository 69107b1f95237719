"""Compares the service over HTTP with its engine and with vLLM. `python -m tests.bench.service`

One run measures, one after the other, with the same model, prompts and client: vLLM's server (if
`--vllm` names its command), our service with its queue, database and delivery, and our engine
alone. Each client requests 64 new tokens in a loop. The figure is output tokens a second of all
clients.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from cli.system.ports import free_port
from core.config.settings import PromptMode, Settings
from core.generation import Generation
from core.prompts.tokenizer import PromptTokenizer
from tests.bench.servers import MODEL, own_servers
from tests.support.polling import wait_until
from tests.support.service import Service
from worker.engine.protocol import Engine, EngineRequest, Sampling, StepEvent
from worker.engine_factory import build_engine

WORDS = ("list", "function", "value", "return", "index", "string", "number", "class", "loop")
NEW_TOKENS = 64
#: Prompts get no chat template, as in vLLM's completions.
RAW = {"PROMPT_MODE": "raw", "SYNC_WAIT_SECONDS": "300"}
#: Requests of each client. The first one warms up and does not count.
ROUNDS = 3
START_SECONDS = 300.0
CALL_SECONDS = 300.0

#: Generates 64 tokens for a prompt.
Ask = Callable[[str], None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--vllm", type=Path, help="the `vllm` command of another environment")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    args = parser.parse_args()
    prompts = _prompts(256)
    rates: dict[str, dict[int, float]] = {}
    if args.vllm:
        with _vllm(args.vllm, args.model) as ask:
            rates["vLLM"] = _measure(ask, prompts, args.at_once)
    with _service(args.model) as ask:
        rates["service"] = _measure(ask, prompts, args.at_once)
    with _engine_alone(args.model) as ask:
        rates["engine"] = _measure(ask, prompts, args.at_once)
    _report(rates, args.at_once)


def _prompts(count: int) -> list[str]:
    """Return texts of 100 to 130 tokens, no two with a common beginning."""
    draw = random.Random(7)
    return [" ".join(draw.choices(WORDS, k=draw.randint(100, 130))) for _ in range(count)]


def _measure(ask: Ask, prompts: Sequence[str], at_once: Sequence[int]) -> dict[int, float]:
    rates = {}
    for clients in at_once:
        supply = iter(prompts * 2)
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(ask, [next(supply) for _ in range(clients)]))
            asked = [next(supply) for _ in range(clients * (ROUNDS - 1))]
            began = time.perf_counter()
            list(pool.map(ask, asked))
            seconds = time.perf_counter() - began
        rates[clients] = len(asked) * NEW_TOKENS / seconds
        print(f"  {clients} at once: {rates[clients]:.1f} output tokens/s", flush=True)
    return rates


@contextmanager
def _vllm(command: Path, model: Path) -> Iterator[Ask]:
    print("vLLM", flush=True)
    port = free_port()
    arguments = ["serve", str(model), "--port", str(port), "--dtype", "float32"]
    arguments += ["--host", "127.0.0.1", "--max-num-seqs", "32", "--no-enable-prefix-caching"]
    with tempfile.NamedTemporaryFile("w+") as log:
        server = subprocess.Popen(
            [str(command), *arguments],
            stdout=log,
            stderr=log,
            env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(
                lambda: server.poll() is not None or _is_healthy(f"{url}/health"),
                START_SECONDS,
                lambda: Path(log.name).read_text()[-3000:],
            )
            yield _asker(
                f"{url}/v1/completions",
                {"model": str(model), "max_tokens": NEW_TOKENS, "ignore_eos": True},
                {},
            )
        finally:
            server.terminate()
            server.wait(60)


@contextmanager
def _service(model: Path) -> Iterator[Ask]:
    print("service", flush=True)
    with (
        own_servers(model, **RAW) as (settings, directory),
        Service.started(settings, directory) as service,
    ):
        yield _asker(
            f"{service.url}/api/llm/generate",
            {"maxTokens": NEW_TOKENS, "ignoreEos": True},
            {"x-api-key": service.make_key()["secret"]},
        )


@contextmanager
def _engine_alone(model: Path) -> Iterator[Ask]:
    print("engine", flush=True)
    tokenizer = PromptTokenizer.load(str(model), PromptMode.RAW)
    unused = {"DATABASE_URL": "postgresql://unused/unused", "REDIS_URL": "redis://unused"}
    settings = Settings.from_environment({**unused, **RAW, "MODEL_PATH": str(model)})
    engine: Engine = build_engine(settings, tokenizer)
    ended: dict[str, threading.Event] = {}

    def deliver(events: Sequence[StepEvent]) -> None:
        for event in events:
            if event.finish_reason is not None:
                ended[event.handle.request.request_id].set()

    engine.start(deliver)
    sampling = Sampling(ignore_eos=True)

    def ask(prompt: str) -> None:
        name = f"{threading.get_ident()}.{time.monotonic_ns()}"
        ended[name] = threading.Event()
        ids = tokenizer.encode(Generation(prompt=prompt))
        engine.submit(EngineRequest(name, ids, NEW_TOKENS, sampling))
        if not ended[name].wait(CALL_SECONDS):
            raise TimeoutError(name)

    try:
        yield ask
    finally:
        engine.stop()


def _asker(url: str, body: dict[str, object], headers: dict[str, str]) -> Ask:
    local = threading.local()

    def ask(prompt: str) -> None:
        if not hasattr(local, "session"):
            local.session = requests.Session()
        response = local.session.post(
            url,
            json={"prompt": prompt, "temperature": 0, **body},
            headers=headers,
            timeout=CALL_SECONDS,
        )
        if response.status_code != 200:
            raise RuntimeError(response.text)
        made = json.loads(response.text)["usage"]["completion_tokens"]
        if made != NEW_TOKENS:
            raise RuntimeError(f"{made} tokens instead of {NEW_TOKENS}")

    return ask


def _is_healthy(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def _report(rates: dict[str, dict[int, float]], at_once: Sequence[int]) -> None:
    print("\n| at once | service, tokens/s | of the engine alone | of vLLM |")
    print("| --- | --- | --- | --- |")
    for clients in at_once:
        mine = rates["service"][clients]
        beside = f"{mine / rates['vLLM'][clients]:.2f}" if "vLLM" in rates else "-"
        alone = mine / rates["engine"][clients]
        print(f"| {clients} | {mine:.0f} | {alone:.2f} | {beside} |")


if __name__ == "__main__":
    main()
