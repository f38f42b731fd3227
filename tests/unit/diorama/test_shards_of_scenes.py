"""Rendered scenes that were damaged on the disk are rendered again."""

import numpy as np
import pytest

from maquette.diorama import dataset
from maquette.errors import MaquetteWarning


@pytest.mark.parametrize("damage", ["a bit", "cut", "empty"])
def test_a_damaged_shard_is_named_and_rendered_again(damage, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 2)
    dataset.prepare(range(2), tmp_path)
    before = dataset.load(range(2), tmp_path, "images")
    (path,) = tmp_path.rglob("*.npz")
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes({"a bit": content, "cut": content[:5000], "empty": b""}[damage])
    with pytest.warns(MaquetteWarning, match=r"The scenes in .* are damaged .*; they are rendered again"):
        after = dataset.load(range(2), tmp_path, "images")
    assert np.array_equal(before, after)
