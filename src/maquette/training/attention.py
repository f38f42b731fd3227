"""Attention without its fused kernel, where that is faster to train."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

FEW = 2**19  # scores an image and head: below, writing all of them down costs less than the fused backward pass


class FasterOfTwo:
    """Plain attention over few scores, the fused kernel over many."""

    def __init__(self) -> None:
        self.plain, self.fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, module: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **more: Any
    ) -> Tensor:
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        few = hidden_states.shape[1] * keys.shape[1] <= FEW
        attended: Tensor = (self.plain if few else self.fused)(module, hidden_states, encoder_hidden_states, **more)
        return attended


@contextmanager
def faster_attention(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """On a CPU the fused kernel's backward pass is slow over few scores: a quarter more images a second without."""
    modules = [module for network in networks for module in network.modules() if isinstance(module, Attention)]
    before = [module.processor for module in modules]
    if device.type == "cpu":
        for module in modules:
            module.set_processor(FasterOfTwo())
    try:
        yield
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.set_processor(processor)
