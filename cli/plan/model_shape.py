"""The dimensions of a model from its `config.json`, and the sizes that follow from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import LauncherError

#: Supported decoders: full attention, and three matrices in each MLP.
KNOWN_TYPES = ("llama", "mistral", "qwen2", "qwen3")
#: Models whose query, key and value projections always have a bias.
_BIASED_TYPES = ("qwen2",)
#: Models that normalise each head's queries and keys.
_NORMED_TYPES = ("qwen3",)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The dimensions of a dense decoder, named as in `config.json`.

    Attributes:
        attention_bias: query, key and value projections have a bias.
        output_bias: the output projection has a bias.
        head_norms: each head's queries and keys are normalised.
    """

    name: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    head_norms: bool = False

    @property
    def linear_parameters(self) -> int:
        """Parameters of the layers' matrices, which quantization applies to."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        attention = 2 * self.hidden_size * (queries + keys)
        return self.num_hidden_layers * (attention + 3 * self.hidden_size * self.intermediate_size)

    @property
    def embedding_parameters(self) -> int:
        return self.vocab_size * self.hidden_size

    @property
    def small_parameters(self) -> int:
        """Parameters of norms and biases."""
        queries = self.num_attention_heads * self.head_dim
        keys = self.num_key_value_heads * self.head_dim
        layer = 2 * self.hidden_size
        layer += (queries + 2 * keys) * self.attention_bias + self.hidden_size * self.output_bias
        layer += 2 * self.head_dim * self.head_norms
        return self.num_hidden_layers * layer + self.hidden_size

    @property
    def parameters(self) -> int:
        tables = 1 if self.tie_word_embeddings else 2
        return (
            self.linear_parameters
            + self.small_parameters
            + tables * self.embedding_parameters  # embeddings, and the output projection
        )

    def cache_bytes_per_token(self, itemsize: int) -> int:
        """Return the cache bytes of one token: a key and a value in each layer."""
        size = self.num_key_value_heads * self.head_dim
        return 2 * self.num_hidden_layers * size * itemsize


#: From its config.json.
QWEN_CODER_32B = ModelShape(
    name="Qwen2.5-Coder-32B-Instruct",
    num_hidden_layers=64,
    hidden_size=5120,
    intermediate_size=27648,
    num_attention_heads=40,
    num_key_value_heads=8,
    head_dim=128,
    vocab_size=152064,
    max_position_embeddings=32768,
    attention_bias=True,
)


def read_shape(path: Path) -> ModelShape:
    """Read the shape from a model's directory, or from its `config.json`.

    Raises:
        LauncherError: the file is missing, damaged, or of an unsupported model.
    """
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text())
        if not isinstance(config, dict):
            raise ValueError("it is no object")
        return shape_of(config, name=path.parent.name or str(path))
    except OSError as error:
        raise LauncherError(f"{path} cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise LauncherError(f"{path} does not describe a model: {error}") from error


def shape_of(config: Mapping[str, Any], *, name: str) -> ModelShape:
    """Return the shape that a configuration describes.

    Raises:
        KeyError, TypeError, ValueError: a number is missing, or the model is not supported.
    """
    kind = config.get("model_type")
    if kind not in KNOWN_TYPES:
        raise ValueError(f"model_type is {kind!r}, not one of {', '.join(KNOWN_TYPES)}")
    layers = set(config.get("layer_types") or ())
    if config.get("use_sliding_window") or layers - {"full_attention"}:
        raise ValueError("some of its layers have a sliding window")
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    has_bias = bool(config.get("attention_bias"))
    shape = ModelShape(
        name=name,
        num_hidden_layers=int(config["num_hidden_layers"]),
        hidden_size=hidden,
        intermediate_size=int(config["intermediate_size"]),
        num_attention_heads=heads,
        num_key_value_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or hidden // heads),
        vocab_size=int(config["vocab_size"]),
        max_position_embeddings=int(config["max_position_embeddings"]),
        tie_word_embeddings=bool(config.get("tie_word_embeddings")),
        attention_bias=has_bias or kind in _BIASED_TYPES,
        output_bias=has_bias and kind not in _BIASED_TYPES,
        head_norms=kind in _NORMED_TYPES,
    )
    if min(shape.num_hidden_layers, hidden, heads, shape.num_key_value_heads, shape.head_dim) < 1:
        raise ValueError("a size is below 1")
    return shape
