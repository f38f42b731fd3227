"""The device and the precision that networks run in."""

import os
from typing import NamedTuple

import torch

from maquette.foundation.settings import DTYPE_NAMES, check_dtype, no_device

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}


CHOSEN = "MAQUETTE_DEVICE"
"""The environment variable with the device that "auto" means; without it, the fastest one."""


class Placement(NamedTuple):
    """A device and a precision."""

    device: torch.device
    dtype: torch.dtype


def find_placement(device: str, dtype: str | torch.dtype) -> Placement:
    """Resolve the names of a device and a precision.

    Args:
        device: a torch device; "auto" is what MAQUETTE_DEVICE names, else the fastest available.
        dtype: "float32", "bfloat16", "float16"; "auto" is bfloat16 on a GPU that computes in it, else float32.

    Raises `MaquetteError` for an unavailable device or an unknown precision.
    """
    place = _device(device)
    name = str(dtype).removeprefix("torch.")
    check_dtype(name)
    if name == "auto":
        return Placement(place, torch.bfloat16 if _has_bfloat16(place) else torch.float32)
    return Placement(place, DTYPES[name])


def _device(name: str) -> torch.device:
    if name == "auto":
        name = os.environ.get(CHOSEN) or "auto"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise no_device(name, str(error).splitlines()[0]) from error
    return device


def _has_bfloat16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
