"""Memory and attention on the machine at hand: what fits, what is recomputed, which attention is faster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from maquette.errors import MaquetteError
from maquette.foundation.memory import keep_freed

T = TypeVar("T")

PIXELS = 8 * 512 * 512  # pixels per batch; a few GiB in an autoencoder


@contextmanager
def checkpointed(enabled: bool, *networks: nn.Module) -> Iterator[None]:
    """Turn on gradient checkpointing in diffusers' blocks, if `enabled`; off again on exit."""
    modules: list[Any] = [module for network in networks for module in network.modules()] if enabled else []
    blocks = [module for module in modules if hasattr(module, "gradient_checkpointing")]
    for block in blocks:
        block.gradient_checkpointing = True
        block._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            block.gradient_checkpointing = False


def keep_pages(device: torch.device) -> None:
    """On a CPU, reuse the memory of freed tensors instead of returning it to the system."""
    if device.type == "cpu":
        keep_freed()


def at_once(size: tuple[int, int]) -> int:
    """The batch size of frozen networks for images (width, height): 32 for small images, fewer for large ones."""
    return max(1, min(32, PIXELS // (size[0] * size[1])))


def with_oom_hint(compute: Callable[[int], T], parts: int, images: int, alone: bool) -> T:
    """Run `compute` with `parts` accumulation parts; if memory runs out, find out what would fit.

    Args:
        images: images of this process in the step.
        alone: whether this is the only process, so that the step can be retried here.

    Raises `MaquetteError` with the smallest number of parts that fits.
    """
    try:
        return compute(parts)
    except torch.OutOfMemoryError:
        pass  # leave this block first: the traceback keeps the step's tensors alive
    message = f"A step of {images} images in {parts} parts does not fit into memory"
    for more in range(parts + 1, images + 1) if alone else ():
        if images % more == 0 and _fits(compute, more):
            raise MaquetteError(f"{message}; accumulation = {more} was tried and fits, with the same result.")
    raise MaquetteError(
        f"{message}{', nor does one at a time' if alone else ''}; use more accumulation, "
        'gradient_checkpointing = true, optimizer.name = "adamw8bit", or a smaller size.'
    )


def _fits(compute: Callable[[int], object], parts: int) -> bool:
    try:
        compute(parts)
    except torch.OutOfMemoryError:
        return False
    return True


FEW = 2**19  # attention scores per image and head; up to here, plain attention beats the fused backward pass


class FasterOfTwo:
    """Attention processor: plain for few scores, the fused kernel for many.

    Takes hidden states (B, N, D) and optional encoder hidden states (B, M, D2); returns (B, N, D).
    """

    def __init__(self) -> None:
        self.plain, self.fused = AttnProcessor(), AttnProcessor2_0()

    def __call__(
        self, module: Attention, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        keys = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        few = hidden_states.shape[1] * keys.shape[1] <= FEW
        attended: Tensor = (self.plain if few else self.fused)(module, hidden_states, encoder_hidden_states, **kwargs)
        return attended


@contextmanager
def faster_attention(device: torch.device, *networks: nn.Module) -> Iterator[None]:
    """Use `FasterOfTwo` on a CPU, where it trains a quarter more images per second; restore the processors on exit.

    Attention of other kinds, such as that of image and text together, keeps its own.
    """
    found = [module for network in networks for module in network.modules() if isinstance(module, Attention)]
    modules = [module for module in found if type(module.processor) in (AttnProcessor, AttnProcessor2_0)]
    previous = [module.processor for module in modules]
    if device.type == "cpu":
        for module in modules:
            module.set_processor(FasterOfTwo())
    try:
        yield
    finally:
        for module, processor in zip(modules, previous, strict=True):
            module.set_processor(processor)
