"""Weight files: the same bytes each time, and damage to them is noticed."""

import json
import struct

import pytest
import torch

from maquette.errors import MaquetteWarning
from maquette.formats.write import write_weights
from maquette.foundation.weights import open_weights

TENSORS = {
    "a": torch.arange(6.0).reshape(2, 3).half(),
    "b": torch.ones(3, dtype=torch.bfloat16),
    "scalar": torch.tensor(3.0),
    "none": torch.zeros(0, 4),
    "number": torch.arange(4),
}


@pytest.mark.parametrize("ending", [".safetensors", ".pth", ".ckpt", ".bin"])
def test_the_same_weights_are_the_same_bytes(ending, tmp_path) -> None:
    for name in ("one", "other"):
        write_weights(TENSORS, tmp_path / f"{name}{ending}", {"key": "value"})
    assert (tmp_path / f"one{ending}").read_bytes() == (tmp_path / f"other{ending}").read_bytes()
    found = open_weights(tmp_path / f"one{ending}")
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())
    assert found.metadata == ({"format": "pt", "key": "value"} if ending == ".safetensors" else {})


def test_a_flipped_bit_of_a_tensor_is_said(tmp_path) -> None:
    path = tmp_path / "net.safetensors"
    write_weights(TENSORS, path, {})
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    start = json.loads(content[8 : 8 + length])["a"]["data_offsets"][0]
    content[8 + length + start] ^= 1
    path.write_bytes(content)
    found = open_weights(path)
    with pytest.warns(MaquetteWarning, match=r"'a' in .* is not as it was written: the file is damaged, or another"):
        found["a"]
    assert torch.equal(found["b"], TENSORS["b"])
