"""The sampling of a job: its request's parameters, then the model's, then neutral ones."""

from __future__ import annotations

from core.generation import Generation
from core.ids import new_id
from worker.jobs.sampling import engine_sampling

#: The defaults that a Qwen model brings.
MODEL_DEFAULTS = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}


def test_the_defaults_of_the_model_apply() -> None:
    sampling = engine_sampling(Generation(prompt="x"), MODEL_DEFAULTS, new_id())

    assert (sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (0.8, 20, 1.1)


def test_the_request_overrides_the_models_defaults() -> None:
    generation = Generation(prompt="x", top_p=1.0, top_k=0, repetition_penalty=1.0)
    sampling = engine_sampling(generation, MODEL_DEFAULTS, new_id())

    assert (sampling.top_p, sampling.top_k, sampling.repetition_penalty) == (1.0, 0, 1.0)


def test_without_defaults_the_parameters_are_neutral() -> None:
    sampling = engine_sampling(Generation(prompt="x", temperature=0), {}, new_id())

    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.0, 1.0, 0)


def test_a_second_attempt_draws_the_same_tokens() -> None:
    job_id = new_id()

    first, second = (engine_sampling(Generation(prompt="x"), {}, job_id) for _ in range(2))

    assert first.seed == second.seed
    assert first.seed != engine_sampling(Generation(prompt="x"), {}, new_id()).seed
