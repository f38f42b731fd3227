"""Writing weights to a file tensor by tensor, with at most one in memory at a time."""

import json
import shutil
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from maquette.foundation.files import atomic_write
from maquette.foundation.weights import CHECKSUMS, checksum

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
PICKLED = (".pth", ".pt", ".ckpt", ".bin")


def write_weights(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors, or torch's format if the name has one of its suffixes; atomically.

    Metadata, with "format": "pt" added, are only written to safetensors: the other formats have no place for them.

    Raises `OSError` if the disk is full.
    """
    with atomic_write(path) as temporary:
        if path.suffix in PICKLED:
            try:
                with temporary.open("wb") as stream:  # given a path, torch would store its name, which is random
                    torch.save(dict(tensors), stream)
            except RuntimeError as error:  # how torch reports a full disk
                raise OSError(f"{str(path)!r}: {str(error).splitlines()[0]}") from error
        else:
            _stream(tensors, temporary, {"format": "pt", **metadata})


def _stream(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write safetensors without its library, which needs all tensors at once.

    Format: the header's length (8 bytes, little-endian), the header (JSON: dtype, shape and offsets of each tensor),
    then the tensors' bytes one after another (https://github.com/huggingface/safetensors). Our own metadata hold a
    checksum of each tensor, which `Weights` compares.
    """
    header: dict[str, object] = {}
    checksums: dict[str, str] = {}
    offset = 0
    with tempfile.TemporaryFile(dir=path.parent) as body:
        for name in tensors:
            value = tensors[name].detach().cpu().contiguous()
            size = value.numel() * value.element_size()
            header[name] = {
                "dtype": _DTYPES[value.dtype],
                "shape": list(value.shape),
                "data_offsets": [offset, offset + size],
            }
            checksums[name] = checksum(value)
            body.write(value.reshape(-1).view(torch.uint8).numpy().data)
            offset += size
        kept = {**metadata, CHECKSUMS: json.dumps(checksums)}
        encoded = json.dumps({"__metadata__": kept, **header}).encode()
        encoded += b" " * (-len(encoded) % 8)  # aligns the tensors
        body.seek(0)
        with path.open("wb") as stream:
            stream.write(struct.pack("<Q", len(encoded)) + encoded)
            shutil.copyfileobj(body, stream, 1 << 22)
