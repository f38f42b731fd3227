"""Attention without its fused kernel, where that is faster to train."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import nn


@contextmanager
def plain_attention(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """On a CPU the fused kernel's backward pass is slow: without it, a quarter more pictures a second."""
    modules = [module for network in networks for module in network.modules() if isinstance(module, Attention)]
    before = [module.processor for module in modules]
    if device.type == "cpu":
        for module in modules:
            module.set_processor(AttnProcessor())
    try:
        yield
    finally:
        for module, processor in zip(modules, before, strict=True):
            module.set_processor(processor)
