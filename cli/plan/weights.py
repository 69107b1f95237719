"""The formats of a checkpoint's weights and their sizes."""

from __future__ import annotations

from enum import StrEnum

from cli.plan.model_shape import ModelShape

#: Of activations, of the cache, and of all that is not quantized.
BF16_BYTES = 2


class Weights(StrEnum):
    BF16 = "bf16"
    FP8 = "fp8"
    AWQ = "awq"


#: Bytes of a matrix' element. FP8 has a float32 scale for each block of 128 by 128; AWQ 4 bits, and
#: for each 128 of them a scale of 16 bits and a zero of 4.
_ELEMENT_BYTES = {
    Weights.BF16: 2.0,
    Weights.FP8: 1 + 4 / 128**2,
    Weights.AWQ: (4 + (16 + 4) / 128) / 8,
}


def weight_bytes(shape: ModelShape, weights: Weights) -> int:
    """Return the bytes of the weights in a GPU's memory.

    Embeddings, norms and biases are not quantized.
    """
    others = shape.parameters - shape.linear_parameters
    return round(shape.linear_parameters * _ELEMENT_BYTES[weights]) + others * BF16_BYTES


def read_bytes(shape: ModelShape, weights: Weights) -> int:
    """Return the bytes of weights that one decoding step reads.

    A step reads only a few rows of the embedding table.
    """
    not_read = 0 if shape.tie_word_embeddings else shape.embedding_parameters * BF16_BYTES
    return weight_bytes(shape, weights) - not_read
