"""Hashes of networks, so that a record can tell whether they are still the same."""

import hashlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maquette.foundation.files import text_hash

_known: WeakKeyDictionary[nn.Module, tuple[Any, str]] = WeakKeyDictionary()
"""The last hash of each network, with the state of its tensors at that time."""


def module_hash(module: nn.Module) -> str:
    """SHA-256 of a network's tensors, by name: their types, shapes and bits, wherever they were loaded from.

    Kept until one of them changes, which torch counts. Kernels from outside of torch, as of 8-bit optimizers, do not
    count, but they change all weights, and so the first and last ones.
    """
    tensors: Mapping[str, Tensor] = module.state_dict()
    state = [(name, value.data_ptr(), _version(value)) for name, value in tensors.items()], ends(tensors.values())
    known = _known.get(module)
    if known is None or known[0] != state:
        hashes = _hashes(list(tensors.values()))
        known = _known[module] = (state, text_hash(repr(sorted(zip(tensors, hashes, strict=True)))))
    return known[1]


def _hashes(tensors: list[Tensor]) -> list[str]:
    """SHA-256 of each tensor of any shape; by threads, as hashing releases Python's lock, if any starts."""
    try:
        with ThreadPoolExecutor() as threads:
            return list(threads.map(_tensor_hash, tensors))
    except RuntimeError:  # the system allows no more threads, or too little memory for one's stack
        return list(map(_tensor_hash, tensors))


def _version(value: Tensor) -> int:
    """How often a tensor of any shape was written to; those made in inference mode do not count."""
    return 0 if value.is_inference() else value._version


def ends(tensors: Iterable[Tensor]) -> list[float]:
    """The first and last number of each tensor of any shape."""
    ends = [value[(place,) * value.ndim].detach().float() for value in tensors if value.numel() for place in (0, -1)]
    return torch.stack(ends).tolist() if ends else []


def _tensor_hash(value: Tensor) -> str:
    """SHA-256 of a tensor of any shape."""
    bits: NDArray[np.uint8] = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits.data).hexdigest()}"
