"""Fixtures of the engine's tests: one random model, one thread, a quiet library."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
import torch
from transformers import Qwen2ForCausalLM

from tests.support.engine.tiny import build_model


@pytest.fixture(scope="session")
def model() -> Qwen2ForCausalLM:
    return build_model()


@pytest.fixture(autouse=True, scope="module")
def small_scale() -> Iterator[None]:
    """Use one thread: small models run faster on it, and other tests share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # each stop of an engine collects garbage: leave out the objects of the libraries
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def quiet_library() -> None:
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
