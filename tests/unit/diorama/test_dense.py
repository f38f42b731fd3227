"""Dense tasks: the cells' truth beside maps averaged by hand, and heads that learn it."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from maquette.diorama import scene
from maquette.recipes.diorama.dense import CELL, Heads, Truth, averaged, read


def _truth(seeds: range) -> Truth:
    made = [scene(seed) for seed in seeds]
    return averaged(
        torch.from_numpy(np.stack([one.classes for one in made])),
        torch.from_numpy(np.stack([one.colours for one in made])),
        torch.from_numpy(np.stack([one.depth for one in made])),
        torch.from_numpy(np.stack([np.round(one.normals * 127).astype(np.int8) for one in made])),
    )


def test_cells_are_the_maps_means() -> None:
    one, truth = scene(3), _truth(range(3, 4))
    rows, columns = slice(9 * CELL, 10 * CELL), slice(5 * CELL, 6 * CELL)
    shares = np.bincount(one.classes[rows, columns].ravel(), minlength=10) / CELL**2
    assert truth.classes[0, :, 9, 5].numpy() == pytest.approx(shares, abs=1e-3)
    assert truth.depth[0, 0, 9, 5].item() == pytest.approx((1 / (1 + one.depth[rows, columns] / 4)).mean(), abs=1e-3)
    assert truth.normals[0, :, 9, 5].numpy() == pytest.approx(one.normals[rows, columns].mean(axis=(0, 1)), abs=5e-3)
    assert truth.colours.sum(dim=1).numpy() == pytest.approx(1, abs=2e-3)
    assert truth.reduced(8).classes[0, :, 4, 2].numpy() == pytest.approx(
        truth.classes[0, :, 8:10, 4:6].float().mean(dim=(1, 2)).numpy(), abs=1e-3
    )


def test_the_blocks_that_are_read_have_8_and_16_cells_and_learn() -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=8, out_channels=8, block_out_channels=(16, 16, 16, 16), layers_per_block=1,
        cross_attention_dim=8, attention_head_dim=2, norm_num_groups=4,
    )  # fmt: skip
    truth = _truth(range(2))
    features, heads = read(unet), Heads(unet, truth.channels())
    optimizer = torch.optim.Adam([*unet.parameters(), *heads.parameters()], lr=3e-3)
    losses, latents = [], torch.randn(2, 8, 16, 16)
    for _ in range(20):
        unet(latents, torch.zeros(2), torch.zeros(2, 4, 8))
        loss = heads.loss(features, truth[torch.arange(2)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert [feature.shape[-1] for feature in features] == [8, 16]
    assert losses[-1] < 0.7 * losses[0]
