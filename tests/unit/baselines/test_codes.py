"""Taming transformers: nearest codes and their gradient against a slow loop, cached writing against the uncached."""

import pytest
import torch
from tests.unit.baselines.conftest import tiny
from torch import nn

from maquette.baselines.codes import Codes
from maquette.baselines.taming import drawn, write


@pytest.fixture
def codes() -> Codes:
    torch.manual_seed(0)
    made = Codes(3, (4, 8), 12, 5)
    nn.init.normal_(made.model.quantize.embedding.weight)
    return made


def test_codes_are_the_nearest_by_a_slow_loop(codes) -> None:
    cells = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    nearest, loss, numbers = codes.quantised(cells)
    table = codes.model.quantize.embedding.weight
    squared = []
    for row in range(2):
        for place in range(12):
            cell = cells[row, :, place // 4, place % 4]
            distances = [float((cell - code).square().sum().detach()) for code in table]
            best = min(range(12), key=distances.__getitem__)
            assert numbers[row, place] == best
            assert torch.allclose(nearest[row, :, place // 4, place % 4], table[best], atol=1e-6)
            squared.append(distances[best] / 5)
    assert loss.item() == pytest.approx(1.25 * sum(squared) / len(squared), rel=1e-5)


def test_the_gradient_goes_straight_through(codes) -> None:
    """To the cells as to what is decoded; codes learn from the codebook's loss alone, cells by a quarter of it."""
    cells = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weight = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(2))
    nearest, _, _ = codes.quantised(cells)
    (nearest * weight).sum().backward()
    assert torch.equal(cells.grad, weight)
    assert codes.model.quantize.embedding.weight.grad is None
    cells.grad = None
    nearest, loss, numbers = codes.quantised(cells)
    loss.backward()
    difference = 2 * (cells - nearest).detach() / cells.numel()
    assert torch.allclose(cells.grad, 0.25 * difference, atol=1e-7)
    expected = torch.zeros(12, 5).index_add_(0, numbers.flatten(), -difference.permute(0, 2, 3, 1).reshape(-1, 5))
    assert torch.allclose(codes.model.quantize.embedding.weight.grad, expected, atol=1e-6)


def test_decoding_numbers_is_decoding_their_cells(codes) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(4))
    nearest, _, numbers = codes.quantised(codes.cells(images))
    assert numbers.shape == (2, 16)
    assert torch.equal(codes.encode(images), numbers)
    assert torch.allclose(codes.decode(numbers), codes.decoded_cells(nearest), atol=1e-6)


def test_unused_codes_are_put_onto_cells(codes) -> None:
    cells = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1))
    table = codes.model.quantize.embedding.weight
    before, numbers = table.detach().clone(), codes.quantised(cells)[2]
    codes.revive(cells, numbers, 7, torch.Generator().manual_seed(0))
    assert torch.equal(table, before)
    codes.revive(cells, numbers, 20, torch.Generator().manual_seed(0))
    of_batch = {tuple(cell.tolist()) for cell in cells.permute(0, 2, 3, 1).reshape(-1, 5)}
    for number in range(12):
        used = bool((numbers == number).any())
        assert torch.equal(table[number], before[number]) == used
        assert used or tuple(table[number].tolist()) in of_batch


def test_writing_with_kept_keys_equals_writing_without(base) -> None:
    """Each code, drawn anew with the same chance from the logits of the whole sequence read at once, is the same."""
    transformer = tiny("taming", base).networks["transformer"]
    torch.manual_seed(1)
    for weight in transformer.parameters():
        nn.init.normal_(weight, std=0.3)
    begun = torch.randint(16, (2, 64), generator=torch.Generator().manual_seed(5))
    sources = [torch.Generator().manual_seed(seed) for seed in (8, 9)]
    written = write(transformer, begun, 40, 16, 8, sources)
    assert written.min() >= 0 and written.max() < 16 and len(written.unique()) > 4
    with torch.no_grad():
        whole = transformer(torch.cat([begun, written + 16], dim=1), use_cache=False).logits[:, 63:-1, 16:]
        output = transformer(begun, use_cache=True)
        following = transformer(written[:, :1] + 16, past_key_values=output.past_key_values, use_cache=True)
    assert torch.allclose(output.logits[:, -1, 16:], whole[:, 0], atol=1e-4)
    assert torch.allclose(following.logits[:, -1, 16:], whole[:, 1], atol=1e-4)
    sources = [torch.Generator().manual_seed(seed) for seed in (8, 9)]
    for place in range(40):
        assert torch.equal(drawn(whole[:, place], 8, sources), written[:, place : place + 1])


def test_codes_are_drawn_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0, -1.0]]).expand(4000, 4)
    sources = [torch.Generator().manual_seed(seed) for seed in range(4000)]
    found = torch.bincount(drawn(logits, 3, sources).flatten(), minlength=4) / 4000
    expected = torch.tensor([0.0, 2.0, 1.0, -torch.inf]).softmax(dim=0)
    assert torch.allclose(found, expected, atol=0.03)
    assert found[3] == 0
