"""Weights into a file, tensor by tensor: no more than one of them is in memory at a time."""

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from maquette.foundation.files import atomic_write

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
PICKLED = (".pth", ".pt", ".ckpt", ".bin")


def write_weights(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors, or torch's own format where the name ends as theirs do; all or nothing.

    Metadata (format pt beside the given) are kept in safetensors alone: the others have no place for them.
    """
    with atomic_write(path) as temporary:
        if path.suffix in PICKLED:
            try:
                torch.save(dict(tensors), temporary)
            except RuntimeError as error:  # its word for a disk that is full
                raise OSError(f"{str(path)!r}: {str(error).splitlines()[0]}") from error
        else:
            _stream(tensors, temporary, {"format": "pt", **metadata})


def _stream(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """The library for safetensors wants all tensors at once; its format, though, is a header and then bytes.

    Format: the header's length (8 bytes, little-endian), the header (JSON: dtype, shape and place of each tensor),
    then the tensors' bytes in a row (https://github.com/huggingface/safetensors).
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    place = 0
    with tempfile.TemporaryFile(dir=path.parent) as body:
        for name in tensors:
            value = tensors[name].detach().cpu().contiguous()
            size = value.numel() * value.element_size()
            header[name] = {
                "dtype": _DTYPES[value.dtype],
                "shape": list(value.shape),
                "data_offsets": [place, place + size],
            }
            body.write(value.reshape(-1).view(torch.uint8).numpy().data)
            place += size
        words = json.dumps(header).encode()
        words += b" " * (-len(words) % 8)  # so that the tensors lie aligned
        body.seek(0)
        with path.open("wb") as stream:
            stream.write(struct.pack("<Q", len(words)) + words)
            shutil.copyfileobj(body, stream, 1 << 22)
