"""Wiring spreads outputs over slots like the published families do."""

import pytest
import torch

from maquette.backbones.residuals import Residuals
from maquette.backbones.wiring import Wiring, ceil, floor, identity, last_alone, modulo, places, shifted, used


def of_slots(wiring: Wiring, slots: int) -> list[int | None]:
    """The number of each slot's output."""
    found: list[int | None] = [None] * slots
    for output, chosen in enumerate(wiring):
        for slot in chosen:
            assert found[slot] is None
            found[slot] = output
    return found


def test_identity() -> None:
    assert identity(3) == ((0,), (1,), (2,))


def test_ceil_is_as_in_diffusers_for_flux() -> None:
    """`controlnet_block_samples[index_block // interval_control]`, interval = int(ceil(blocks / samples))."""
    assert of_slots(ceil(6, 19), 19) == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 3
    assert used(ceil(6, 19)) == 5  # the last of Union-Pro-2.0's six blocks is unused
    assert of_slots(ceil(5, 60), 60) == [slot // 12 for slot in range(60)]


def test_floor_is_as_in_diffusers_for_sd3() -> None:
    """`block_controlnet_hidden_states[int(index_block / interval_control)]`, and the last block takes none."""
    assert of_slots(floor(6, 24, 23), 23) == [slot // 4 for slot in range(23)]
    spread = of_slots(floor(23, 24, 23), 23)
    assert spread[:4] == [0, 0, 1, 2]  # slot 1 gets output 0 again
    assert spread[-1] == 21
    assert used(floor(23, 24, 23)) == 22


def test_modulo_repeats() -> None:
    assert of_slots(modulo(2, 5), 5) == [0, 1, 0, 1, 0]


def test_shifted_leaves_the_first_out() -> None:
    assert of_slots(shifted(3), 5) == [None, 0, 1, 2, None]


def test_places() -> None:
    assert of_slots(places((0, 2, 4)), 6) == [0, None, 1, None, 2, None]


def test_last_alone() -> None:
    assert last_alone(ceil(2, 4)) == ((), (2, 3))
    assert used(last_alone(identity(3))) == 3


@pytest.mark.parametrize("slots", [7, 8])
def test_residuals_of_two_depths_add_up_slot_by_slot(slots: int) -> None:
    """Each is first expanded by its own rule: nets with 2 and 3 outputs, in either order."""
    outputs = {count: [torch.full((1, 1, 1, 1), float(10**n)) for n in range(count)] for count in (2, 3)}
    first = Residuals.wired(outputs[2], ceil(2, slots), slots)
    second = Residuals.wired(outputs[3], modulo(3, slots), slots)
    expected = [10.0 ** (slot // ((slots + 1) // 2)) + 10.0 ** (slot % 3) for slot in range(slots)]
    for summed in (first + second, second + first):
        assert [value.item() for value in summed] == expected


def test_expanding_copies_nothing() -> None:
    output = torch.ones(1, 2, 3, 3)
    assert all(value is output for value in Residuals.wired([output], ceil(1, 4), 4))


def test_slots_without_an_output_get_none() -> None:
    residuals = Residuals.wired([None, torch.ones(1)], last_alone(ceil(2, 4)), 4)
    assert [value is None for value in residuals] == [True, True, False, False]
