"""Where networks run, and in which precision."""

from typing import NamedTuple

import torch

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Placement(NamedTuple):
    device: torch.device
    dtype: torch.dtype


def find_placement(device: str, dtype: str | torch.dtype) -> Placement:
    """Where and in which precision, by name.

    Args:
        device: as torch names devices; "auto" is the fastest that is there.
        dtype: "float32", "bfloat16", "float16"; "auto" is bfloat16 where the hardware multiplies in it, else float32.
    """
    place = _device(device)
    words = str(dtype).removeprefix("torch.")
    if words == "auto":
        return Placement(place, torch.bfloat16 if _has_bfloat16(place) else torch.float32)
    if words not in DTYPES:
        raise MaquetteError(unknown("dtype", words, ["auto", *DTYPES]))
    return Placement(place, DTYPES[words])


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"There is no device {name!r} here ({reason}); give 'auto', 'cpu', or 'cuda' or 'mps' where it is."
        ) from error
    return device


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
