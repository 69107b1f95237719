"""One random model for all tests of the engine."""

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
    """Small models run faster on one thread, and other tests may share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # each engine that stops collects garbage, among all the objects of the libraries
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def quiet_library() -> None:
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
