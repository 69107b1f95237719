"""Packs a model's weights for fast matrix products on a CPU; the numbers stay the same.

Milliseconds for all products of a step, measured on SmolLM2-135M in float32 with two threads:

| rows | torch's layout | input dimension first | packed |
| --- | --- | --- | --- |
| 1 | 33 | 26 | 12 |
| 16 | 69 | 63 | 21 |
| 32 | 94 | 85 | 32 |
| 512 | 1020 | 870 | 380 |

One packing serves all numbers of rows.
"""

from __future__ import annotations

import torch
from torch import nn

#: Number of rows that oneDNN chooses the packing for. 4 to 64 give the same; 1 is slower for all.
TYPICAL_ROWS = 32


class PackedLinear(nn.Linear):
    """A linear layer whose packed weight only oneDNN can read.

    It is an `nn.Linear` whose `weight` has the right type and no elements. The library reads the
    type of such a weight in each attention module, and fails without one.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features = linear.in_features
        self.out_features = linear.out_features
        self.weight = nn.Parameter(linear.weight.new_empty(0), requires_grad=False)
        self.bias = linear.bias
        self._packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(
            linear.weight.detach().contiguous(), TYPICAL_ROWS
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return the product: shape (..., in features) to (..., out features)."""
        out: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self._packed, self.bias, "none", [], ""
        )
        return out


def pack_weights(model: nn.Module) -> None:
    """Pack the weights of all plain linear layers, if oneDNN is available."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]  # torch's own
        return
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear and child.weight.dtype in (torch.float32, torch.bfloat16):
                setattr(parent, name, PackedLinear(child))
    _copy_mapped_tensors(model)


def _copy_mapped_tensors(model: nn.Module) -> None:
    """Copy tensors mapped from the model's file; one of them would keep all of it in memory."""
    for tensor in [*model.parameters(), *model.buffers()]:
        tensor.data = tensor.data.clone()
