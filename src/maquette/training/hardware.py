"""Memory: gradient checkpointing, batch sizes, and advice when memory runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
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
