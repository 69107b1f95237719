"""`bountycoder plan`: its arithmetic against manual calculations, and its output."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.main import main
from cli.plan.cache import CacheOptions
from cli.plan.gpus import GPUS
from cli.plan.model_shape import QWEN_CODER_32B
from cli.plan.pace import Efficiency, Pace, Request
from cli.plan.sizing import Load, cost, size
from cli.plan.weights import Weights, read_bytes, weight_bytes
from core.config.settings import Settings
from tests.support.processes import run

#: The full speed of a GPU, so that a manual calculation is simple.
PERFECT = Efficiency(bandwidth=1.0, compute=1.0, step_seconds=0.0)
OPTIONS = CacheOptions(max_sequences=32, max_batch_tokens=512)


def pace(gpu: str, weights: Weights, efficiency: Efficiency = PERFECT) -> Pace:
    return Pace(shape=QWEN_CODER_32B, weights=weights, gpu=GPUS[gpu], efficiency=efficiency)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["plan", "--json", *arguments]) == 0
    return dict(json.loads(capsys.readouterr().out))


def fault(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the only line of the error."""
    assert main(["plan", *arguments]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    return err


def test_the_number_of_parameters_is_right() -> None:
    # 5120² for queries and outputs, 1024 times 5120 for keys and values, three of 27648 times 5120.
    layer = 2 * 26_214_400 + 2 * 5_242_880 + 3 * 141_557_760
    assert QWEN_CODER_32B.linear_parameters == 64 * layer == 31_205_621_760
    assert QWEN_CODER_32B.embedding_parameters == 152_064 * 5120 == 778_567_680
    # Each layer has biases of 5120 + 2 * 1024 and norms of 2 * 5120; one norm follows them.
    assert QWEN_CODER_32B.small_parameters == 64 * 17_408 + 5120
    assert QWEN_CODER_32B.parameters == 32_763_876_352


def test_a_token_takes_256_kib_of_the_cache() -> None:
    # A key and a value, 64 layers, 8 heads of 128 numbers of 2 bytes.
    assert QWEN_CODER_32B.cache_bytes_per_token(2) == 2 * 64 * 8 * 128 * 2 == 256 * 1024


def test_weights_are_as_large_as_published_checkpoints() -> None:
    assert weight_bytes(QWEN_CODER_32B, Weights.BF16) == 65_527_752_704  # 65.5 GB
    assert weight_bytes(QWEN_CODER_32B, Weights.FP8) / 1e9 == pytest.approx(34.3, abs=0.05)
    assert weight_bytes(QWEN_CODER_32B, Weights.AWQ) / 1e9 == pytest.approx(19.3, abs=0.05)


def test_a_step_reads_all_weights_except_the_token_embeddings() -> None:
    read = read_bytes(QWEN_CODER_32B, Weights.BF16)

    assert read == 65_527_752_704 - 2 * 778_567_680 == 63_970_617_344


def test_a_step_of_one_stream_takes_the_read_bytes_over_the_bandwidth() -> None:
    # 63.97 GB at 2.039 TB/s are 31.37 ms; 1000 tokens of 256 KiB are 0.13 ms more.
    assert pace("a100-80", Weights.BF16).step_seconds(1, 0) == pytest.approx(0.031374, abs=1e-6)
    assert pace("a100-80", Weights.BF16).step_seconds(1, 1000) == pytest.approx(0.031502, abs=1e-6)


def test_many_streams_are_bound_by_compute() -> None:
    at_312_teraflops = pace("a100-80", Weights.AWQ)

    # 2 * 31.98 billion operations are 0.205 ms; 100 tokens take longer than reading 17.8 GB.
    assert at_312_teraflops.token_seconds == pytest.approx(0.000205, abs=1e-6)
    assert at_312_teraflops.step_seconds(100, 0) == pytest.approx(0.0205, abs=1e-4)


def test_a_completion_waits_for_the_prompts_of_others() -> None:
    fast, request = pace("h100", Weights.BF16), Request(prompt=1000, completion=100)

    steps = 100 * fast.step_seconds(8, 1050)
    prompts = 8 * 1000 * fast.token_seconds

    assert fast.completion_seconds(8, request) == pytest.approx(steps + prompts)
    assert fast.per_stream(8, request) == pytest.approx(100 / (steps + prompts))


def test_one_stream_more_would_be_too_slow() -> None:
    request = Request(prompt=800, completion=300)
    sized = size(pace("h100", Weights.FP8, Efficiency()), request, options=OPTIONS, target=30.0)

    assert sized.bound == "the pace"
    assert sized.pace.per_stream(sized.streams, request) >= 30.0
    assert sized.pace.per_stream(sized.streams + 1, request) < 30.0


def test_one_stream_more_would_not_fit_the_cache() -> None:
    request = Request(prompt=8000, completion=1000)
    sized = size(pace("h100", Weights.BF16), request, options=OPTIONS, target=1.0)

    assert sized.bound == "the cache"
    # A request takes 36 pages of 256 tokens.
    assert sized.streams == sized.cache_tokens // (36 * 256)


def test_gpus_follow_from_rate_and_time() -> None:
    load = Load(
        users=8640, active_share=0.5, requests_per_day=20, peak_factor=10, headroom=0, min_gpus=1
    )
    request = Request(prompt=800, completion=300)
    sized = size(pace("h100", Weights.FP8, Efficiency()), request, options=OPTIONS, target=30.0)

    assert load.requests_per_second == 1.0
    assert load.peak_requests_per_second == 10.0
    seconds = sized.pace.completion_seconds(sized.streams, request)
    assert 9.5 < seconds <= 10.0  # 300 tokens at 30 a second
    assert sized.streams_at(10.0) == pytest.approx(10 * seconds)
    assert sized.gpus_at(10.0, load) == -(-10 * seconds // sized.streams)


def test_costs_are_hours_times_their_price() -> None:
    load = Load(users=8640, active_share=0.5, requests_per_day=20, peak_factor=1, min_gpus=2)
    request = Request(prompt=100, completion=100)
    sized = size(pace("h100", Weights.FP8), request, options=OPTIONS, target=30.0)

    costs = cost(sized, load, dollars_per_hour=2.0)

    # Two GPUs for 730 hours; a request a second makes 100 times 3600 times 730 tokens.
    assert costs.month == costs.scaled_month == 2 * 730 * 2.0
    assert costs.million == pytest.approx(2920 / 262.8)
    assert costs.full_million == pytest.approx(2.0 / (sized.per_gpu * 3600) * 1e6)


def test_the_planned_settings_are_valid(
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = plan(capsys)["settings"]

    servers = {"DATABASE_URL": "postgresql://u@h/n", "REDIS_URL": "redis://h"}
    settings = Settings.from_environment({**servers, **found})
    assert set(found) <= {name.upper() for name in Settings.model_fields}
    assert settings.engine_max_sequences == int(found["ENGINE_MAX_SEQUENCES"]) > 1
    assert settings.engine_cuda_graphs


def test_settings_of_the_environment_are_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_MAX_BATCH_TOKENS", "16")

    found = plan(capsys)

    assert (found["bound"], found["streams_per_gpu"]) == ("ENGINE_MAX_BATCH_TOKENS", 16)
    assert found["settings"]["ENGINE_MAX_BATCH_TOKENS"] == "16"


def test_another_model_is_planned_by_its_configuration(
    capsys: pytest.CaptureFixture[str], model_dir: Path
) -> None:
    found = plan(capsys, "--model-config", str(model_dir), "--gpu", "a100-80", "--weights", "bf16")

    assert found["parameters"] == 134_515_008
    assert found["cache_bytes_per_token"] == 2 * 30 * 3 * 64 * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpu", "l40s", "--weights", "bf16"], "does not fit l40s: its weights take 61.0 of 44"),
        (["--gpu", "a100-80", "--weights", "fp8"], "a100-80 does not support fp8 weights"),
        (["--prompt-tokens", "32768"], "are more than the 32768"),
        (["--model-config", "/nonexistent/config.json"], "cannot be read"),
    ],
)
def test_an_impossible_plan_is_a_clear_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in fault(capsys, *arguments)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "it is no object"),
        ("{", "does not describe a model"),
        ('{"model_type": "mixtral"}', "model_type is 'mixtral', not one of"),
        ('{"model_type": "qwen2"}', "hidden_size"),
        ('{"model_type": "qwen2", "use_sliding_window": true}', "sliding window"),
    ],
)
def test_an_unknown_configuration_is_rejected(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, config: str, message: str
) -> None:
    (tmp_path / "config.json").write_text(config)

    assert message in fault(capsys, "--model-config", str(tmp_path))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--users=0", "must be a whole number of at least 1"),
        ("--users=1.5", "must be a whole number of at least 1"),
        ("--active-share=1.1", "is not a number above 0 and at most 1"),
        ("--peak-factor=0.5", "is not a number of at least 1"),
        ("--price=nan", "is not a number above 0"),
    ],
)
def test_impossible_numbers_are_rejected(
    capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    with pytest.raises(SystemExit):
        main(["plan", option])

    assert message in capsys.readouterr().err


def test_a_gpu_that_is_too_slow_for_one_stream_is_no_plan(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["plan", "--gpu", "a100-80", "--weights", "bf16"]) == 1

    output = capsys.readouterr().out
    assert "TOO SLOW: a stream needs 30" in output
    assert "settings" not in output


def test_planning_needs_no_torch() -> None:
    program = (
        "import sys; from cli.main import main; main(['plan']); assert 'torch' not in sys.modules"
    )

    done = run([sys.executable, "-c", program], environment=os.environ)

    assert (done.returncode, done.stderr) == (0, "")
