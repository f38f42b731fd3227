"""Memory: what trades it for time, and what to say when there is too little."""

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

PIXELS = 8 * 512 * 512  # a few GiB in an autoencoder


@contextmanager
def checkpointed(wanted: bool, *networks: nn.Module) -> Iterator[None]:
    """Blocks that compute their activations again in the backward pass, as diffusers' blocks offer it."""
    modules: list[Any] = [module for one in networks for module in one.modules()] if wanted else []
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
    """On a CPU, keep the memory of freed tensors for the next ones."""
    if device.type == "cpu":
        keep_freed()


def at_once(size: tuple[int, int]) -> int:
    """How many images (width, height) locked networks see together: 32 small ones, fewer of large ones."""
    return max(1, min(32, PIXELS // (size[0] * size[1])))


def with_oom_hint(compute: Callable[[int], T], parts: int, images: int, alone: bool) -> T:
    """What `compute` makes of a step in so many parts; where that is too much for the memory, what would fit.

    Args:
        images: of this process in the step.
        alone: whether no other process computes the same step, so that it may be tried again here.

    Raises `MaquetteError` with the smallest number of parts that was found to fit.
    """
    try:
        return compute(parts)
    except torch.OutOfMemoryError:
        pass  # out of this block first: its traceback holds the step's tensors
    said = f"A step of {images} images in {parts} parts does not fit into memory"
    for more in range(parts + 1, images + 1) if alone else ():
        if images % more == 0 and _fits(compute, more):
            raise MaquetteError(f"{said}; accumulation = {more} was tried and fits, with the same result.")
    raise MaquetteError(
        f"{said}{', nor does one at a time' if alone else ''}; give more accumulation, gradient_checkpointing = true, "
        'optimizer = "adamw8bit", or a smaller size.'
    )


def _fits(compute: Callable[[int], object], parts: int) -> bool:
    try:
        compute(parts)
    except torch.OutOfMemoryError:
        return False
    return True
