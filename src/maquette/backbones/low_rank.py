"""A change of a linear layer by two thin matrices: LoRA (Hu et al. 2021), as layers and under peft's names."""

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """B A, to be added to a layer's output: zero at first, since B is."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.lora_A = nn.Linear(inputs, rank, bias=False)
        self.lora_B = nn.Linear(rank, outputs, bias=False)

    @staticmethod
    def of(layer: nn.Linear, rank: int) -> "LowRank":
        """For a linear layer."""
        return LowRank(layer.in_features, layer.out_features, rank)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """A uniform in ±1/√inputs, as peft has it, drawn on the CPU; B zero."""
        weight = self.lora_A.weight
        weight.copy_((2 * torch.rand(weight.shape, generator=generator) - 1) * weight.shape[1] ** -0.5)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        change: Tensor = self.lora_B(self.lora_A(x))
        return change
