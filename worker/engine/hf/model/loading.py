"""Loads a causal language model from a directory or the hub, ready for the engine."""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.distributed import DistributedConfig
from transformers.generation.continuous_batching.utils import (
    find_head_dim,
    find_num_key_value_heads,
)

from core.config.settings import Attention
from worker.engine.hf.model import cpu_attention
from worker.engine.hf.model.weights import pack_weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with the properties that the engine needs.

    Attributes:
        eos_ids: token ids that end a sequence.
        context_length: most tokens of one sequence.
    """

    model: Any
    vocab_size: int
    eos_ids: tuple[int, ...]
    context_length: int

    @property
    def bytes_per_token(self) -> int:
        """Bytes of the attention cache for one token, in all layers."""
        config = self.model.config.get_text_config()
        size = find_head_dim(config) * find_num_key_value_heads(config)
        itemsize: int = self.model.dtype.itemsize
        return 2 * int(config.num_hidden_layers) * size * itemsize

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = self.model.device
        return device


def load_model(
    path: str,
    *,
    dtype: str = "auto",
    attention: Attention = Attention.AUTO,
    device: torch.device | None = None,
    tensor_parallel: int = 1,
) -> LoadedModel:
    """Load the model at `path`, a directory or a hub name, onto a GPU if there is one.

    Args:
        tensor_parallel: number of ranks; each loads its part of the model. Above 1, the process
            group must exist (`rank_launcher.py`).
    """
    device = device or default_device()
    implementation = choose_attention(attention, device)
    if implementation == cpu_attention.NAME:
        cpu_attention.install()
    _log.info("loading %s on %s with %s", path, device, implementation)
    model: Any = AutoModelForCausalLM.from_pretrained(
        path,
        dtype=choose_dtype(dtype, device),
        attn_implementation=implementation,
        # A model is numbers only: never run a pickle or code from its directory.
        use_safetensors=True,
        trust_remote_code=False,
        **_placement(device, tensor_parallel),
    )
    return adopt_model(model, pack=tensor_parallel == 1)


def _placement(device: torch.device, tensor_parallel: int) -> dict[str, Any]:
    """Return the placement of weights: straight to the GPU, as they may exceed the memory."""
    if tensor_parallel > 1:
        return {"distributed_config": DistributedConfig(tp_size=tensor_parallel)}
    return {} if device.type == "cpu" else {"device_map": {"": device}}


def adopt_model(model: Any, *, pack: bool = False) -> LoadedModel:
    """Prepare a loaded model for inference; `pack` packs its weights if it is on a CPU."""
    model = model.eval().requires_grad_(False)
    if pack and model.device.type == "cpu":
        pack_weights(model)
    config = model.config.get_text_config()
    return LoadedModel(
        model=model,
        vocab_size=model.get_input_embeddings().num_embeddings,
        eos_ids=_eos_ids(model),
        context_length=config.max_position_embeddings,
    )


def default_device() -> torch.device:
    """Return the GPU of this process, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the type of the weights; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    chosen: torch.dtype = getattr(torch, dtype)
    return chosen


def choose_attention(attention: Attention, device: torch.device) -> str:
    """Return the library's name of the attention implementation for the device."""
    if attention is not Attention.AUTO:
        return attention.value
    if device.type == "cpu":
        return cpu_attention.NAME
    if importlib.util.find_spec("flash_attn") is not None:
        return Attention.FLASH.value
    _log.warning(
        "FlashAttention is not installed: the engine uses SDPA, which is 3 to 5 times slower. "
        "Install the extra `gpu`, or set ENGINE_ATTENTION=sdpa to choose SDPA."
    )
    return Attention.SDPA.value


def _eos_ids(model: Any) -> tuple[int, ...]:
    for config in (model.generation_config, model.config.get_text_config()):
        ids = getattr(config, "eos_token_id", None)
        if isinstance(ids, int):
            return (ids,)
        if ids:
            return tuple(ids)
    return ()
