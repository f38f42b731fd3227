"""Where networks run, and in which precision."""

import torch

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def find_device(name: str) -> torch.device:
    """A device by torch's name for it, if it is there; "auto" is the fastest that is."""
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


def find_dtype(name: str | torch.dtype, device: torch.device) -> torch.dtype:
    """A precision by name; "auto" is bfloat16 where the hardware multiplies in it, else float32."""
    words = str(name).removeprefix("torch.")
    if words == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if words not in DTYPES:
        raise MaquetteError(unknown("dtype", words, ["auto", *DTYPES]))
    return DTYPES[words]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
