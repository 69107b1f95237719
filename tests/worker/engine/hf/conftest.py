"""Fixtures of the engine's tests: a random model, one thread of torch, a silent library."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator

import pytest
import torch
from transformers import Qwen2ForCausalLM

from tests.support.engine.tiny_model import build_model


@pytest.fixture(scope="session")
def model() -> Qwen2ForCausalLM:
    return build_model()


@pytest.fixture(autouse=True, scope="module")
def one_torch_thread() -> Iterator[None]:
    """Use one thread: small models run faster on it, and other tests share the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.freeze()  # an engine collects garbage when it stops: leave out the libraries' objects
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_library_warnings() -> None:
    logging.getLogger("ContinuousBatchingLogger").setLevel(logging.CRITICAL)
