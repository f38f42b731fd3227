"""Saved states: whatever has changed since they were written is noticed."""

import numpy as np
import pytest
import torch

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.training import checkpoint


def saved(folder, step: int) -> dict:
    state = {"net": {"weight": torch.randn(64, 64), "bias": torch.randn(64)}}
    checkpoint.write(checkpoint.state_at(folder, step), {"step": step, **state})
    return state


def flip(path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_flipped_bit_changes_no_value_unnoticed(tmp_path) -> None:
    state = saved(tmp_path, 1)
    path = checkpoint.state_at(tmp_path, 1)
    whole, noticed = path.read_bytes(), 0
    for bit in np.random.default_rng(0).integers(8 * len(whole), size=100):
        flip(path, int(bit))
        try:
            found = checkpoint.read(path)
            assert all(torch.equal(found["net"][name], value) for name, value in state["net"].items())
            assert found["step"] == 1
        except MaquetteError:
            noticed += 1
        path.write_bytes(whole)
    assert noticed > 80  # the rest is padding


def test_the_state_before_a_damaged_one_is_read_and_said(tmp_path) -> None:
    first = saved(tmp_path, 1)
    saved(tmp_path, 2)
    path = checkpoint.state_at(tmp_path, 2)
    flip(path, 4 * path.stat().st_size)
    with pytest.warns(MaquetteWarning, match=r"state-000002\.pt' is damaged .* continues from state-000001\.pt"):
        found = checkpoint.last(tmp_path)
    assert found is not None
    assert torch.equal(found["net"]["weight"], first["net"]["weight"])


def test_a_run_whose_states_are_all_damaged_does_not_start_anew(tmp_path) -> None:
    saved(tmp_path, 1)
    checkpoint.state_at(tmp_path, 1).write_bytes(b"")
    with pytest.raises(MaquetteError, match=r"No state of the run .* can be read.* start again in another folder"):
        checkpoint.last(tmp_path)
    assert checkpoint.last(tmp_path / "empty") is None
