import torch

from maquette.foundation.seeds import generators, noise


def test_a_row_depends_on_its_seed_alone() -> None:
    batch = noise(generators([3, 4, 5]), (4, 8, 8))
    assert torch.equal(batch[1:2], noise(generators([4]), (4, 8, 8)))
    assert torch.equal(batch[1:2], torch.randn(1, 4, 8, 8, generator=torch.Generator("cpu").manual_seed(4)))
