"""Residuals on tokens beside the image's: they add up, are weighted and padded with the others, and lie in no mask."""

import torch

from maquette.backbones.residuals import Residuals, Tokens


def residuals(length: int, rows: int = 2, seed: int = 0) -> Residuals:
    """At the first of two slots; the second has a map alone."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(2, rows, 3, 4, 4, generator=generator)
    beside = torch.randn(rows, length, 3, generator=generator)
    return Residuals.wired([Tokens(maps[0], beside), maps[1]], ((0,), (1,)), 2)


def test_an_output_at_two_slots_is_one_tensor() -> None:
    tokens = Tokens(torch.ones(1, 3, 2, 2), torch.ones(1, 5, 3))
    wired = Residuals.wired([tokens], ((0, 2),), 3)
    assert wired[0] is wired[2] is tokens.map
    assert wired.beside[0] is wired.beside[2] is tokens.beside
    assert wired[1] is None
    assert wired.beside[1] is None


def test_a_sum_of_texts_of_unlike_length_has_zeros_behind() -> None:
    short, long = residuals(3), residuals(5, seed=1)
    for total in (short + long, long + short):
        assert torch.equal(total.beside[0][:, :3], short.beside[0] + long.beside[0][:, :3])
        assert torch.equal(total.beside[0][:, 3:], long.beside[0][:, 3:])
        assert torch.equal(total[1], short[1] + long[1])
        assert total.beside[1] is None


def test_weights_rows_and_branches() -> None:
    one = residuals(3)
    assert torch.equal(one.scaled([0.5, 1.0]).beside[0], 0.5 * one.beside[0])
    assert one.scaled(1.0).beside[0] is one.beside[0]
    padded = one.pad_front(2)
    assert not padded.beside[0][:2].any()
    assert torch.equal(padded.beside[0][2:], one.beside[0])
    assert torch.equal(padded.last(2).beside[0], one.beside[0])
    assert torch.equal(one.twice().beside[0], torch.cat([one.beside[0]] * 2))
    assert torch.equal(one.pooled().beside[0], one.beside[0])


def test_a_mask_counts_by_the_share_that_it_leaves() -> None:
    one, half = residuals(3), torch.ones(1, 1, 4, 4)
    half[..., :1] = 0
    masked = one.masked([half, half])
    assert torch.equal(masked.beside[0], 0.75 * one.beside[0])
    assert not masked[0][..., :1].any()
    black = one.masked([torch.zeros(1, 1, 4, 4)] * 2)
    assert not black.beside[0].any()


def test_as_tensors_by_name_and_back() -> None:
    one = residuals(3)
    named = one.tensors()
    assert named.keys() == {"0", "1", "0+"}
    again = one.like({name: value[:1] for name, value in named.items()})
    assert torch.equal(again.beside[0], one.beside[0][:1])
    assert torch.equal(again[1], one[1][:1])
    assert again.beside[1] is None
