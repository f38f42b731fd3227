"""Masks against slow loops: soft edges inside them, the latent cells that are freed, the resolutions of slots."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.backbones.protocol import Slot
from maquette.sampling.masks import framed_mask, free_cells, slot_masks, soft_edge


def random_mask(seed: int, height: int = 24, width: int = 32) -> np.ndarray:
    """Some overlapping rectangles, some of them one pixel wide or at the border."""
    rng, mask = np.random.default_rng(seed), np.zeros((height, width), bool)
    for _ in range(3):
        top, left = rng.integers(0, height), rng.integers(0, width)
        mask[top : top + rng.integers(1, 14), left : left + rng.integers(1, 14)] = True
    return mask


def tensor(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(mask.astype(np.float32))[None, None]


def squares_that_fit(mask: np.ndarray, radius: int) -> np.ndarray:
    """Centres whose square is inside the mask; outside the image anything counts as inside."""
    fits = np.zeros_like(mask)
    for y, x in np.argwhere(mask):
        fits[y, x] = mask[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].all()
    return fits


@pytest.mark.parametrize("feather", [0, 1, 2, 5, 8])
def test_the_soft_edge_is_that_of_a_slow_loop(feather) -> None:
    """Of the squares of radius 0 to feather - 1 that contain a pixel and fit, the share that fit when centred on it."""
    for seed in range(4):
        mask = random_mask(seed)
        soft = soft_edge(tensor(mask), feather)[0, 0].numpy()
        fits = [squares_that_fit(mask, radius) for radius in range(max(1, feather))]
        for y, x in np.ndindex(mask.shape):
            around = [(slice(max(0, y - r), y + r + 1), slice(max(0, x - r), x + r + 1)) for r in range(len(fits))]
            containing = sum(bool(fit[window].any()) for fit, window in zip(fits, around, strict=True))
            centred = sum(bool(fit[y, x]) for fit in fits)
            assert soft[y, x] == pytest.approx(centred / containing if containing else 0)


def test_a_soft_edge_never_grows_and_rises_evenly() -> None:
    wide = np.zeros((40, 60), bool)
    wide[5:35, 10:50] = True
    soft = soft_edge(tensor(wide), 8)[0, 0].numpy()
    assert not soft[~wide].any()
    assert np.allclose(soft[20, 10:20], [1 / 8, 2 / 8, 3 / 8, 4 / 8, 5 / 8, 6 / 8, 7 / 8, 1, 1, 1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 20), (3, 3), (2, 7)])
def test_a_narrow_mask_is_white_in_its_middle(shape) -> None:
    mask = np.zeros((30, 40), bool)
    mask[10 : 10 + shape[0], 10 : 10 + shape[1]] = True
    mask[15:30, 20:40] = True  # a wide part beside it
    soft = soft_edge(tensor(mask), 8)[0, 0].numpy()
    assert soft[10 : 10 + shape[0], 10 : 10 + shape[1]].max() == 1
    assert soft[15:30, 20:40].max() == 1
    assert soft[29, 39] == 1, "the image's border is no edge"


def test_grey_stays_a_share() -> None:
    mask = np.full((20, 20), 0.5, np.float32)
    assert torch.equal(soft_edge(torch.from_numpy(mask)[None, None], 4), torch.full((1, 1, 20, 20), 0.5))


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_free_cells_are_those_near_any_pixel_that_may_change(reach) -> None:
    for seed in range(4):
        mask = random_mask(seed)
        free = free_cells(tensor(mask) * 0.01, 4, reach)[0, 0].numpy()
        expected = np.zeros((6, 8), bool)
        for y, x in np.argwhere(mask):
            cy, cx = y // 4, x // 4
            expected[max(0, cy - reach) : cy + reach + 1, max(0, cx - reach) : cx + reach + 1] = True
        assert np.array_equal(free, expected)


def test_masks_of_slots_are_means_over_area() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (32, 64))
    slots = [Slot("a", 4, 1), Slot("b", 4, 2), Slot("c", 4, 2)]
    masks = slot_masks(tensor(grey / 255), slots, 8)
    for slot, mask in zip(slots, masks, strict=True):
        side = 8 * slot.downscale
        for y, x in np.ndindex(32 // side, 64 // side):
            block = grey[y * side : (y + 1) * side, x * side : (x + 1) * side]
            assert mask[0, 0, y, x] == pytest.approx(block.mean() / 255, abs=1e-6)


def test_a_resized_mask_has_no_white_beyond_its_edge() -> None:
    """Lanczos would ring."""
    mask = Image.new("L", (300, 300))
    mask.paste(255, (150, 0, 300, 300))
    framed = framed_mask(mask, (128, 128))
    assert framed.shape == (1, 1, 128, 128)
    assert not framed[..., :64].any() and framed[..., 64:].min() == 1


def painted(mode: str) -> tuple[Image.Image, np.ndarray]:
    """White and grey strokes on nothing, of any opacity; and what they are as a mask: level times opacity."""
    rng = np.random.default_rng(0)
    level, opacity = rng.integers(0, 256, (16, 24), dtype=np.uint8), rng.integers(0, 256, (16, 24), dtype=np.uint8)
    opacity[:, :12] = 0
    if mode == "P":  # one colour of the palette is transparent
        indices = (opacity > 0).astype(np.uint8)
        image = Image.fromarray(indices, "P")
        image.putpalette([255, 255, 255] * 2)
        image.info["transparency"] = 0
        return image, indices.astype(float)
    layers = [Image.fromarray(level)] * (3 if mode == "RGBA" else 1)
    return Image.merge(mode, [*layers, Image.fromarray(opacity)]), level / 255 * (opacity / 255)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_black_whoever_reads_the_mask(mode, tmp_path) -> None:
    image, wanted = painted(mode)
    image.save(tmp_path / "mask.png")
    net = mq.ControlNet.attach(tiny_base())
    for given in (image, tmp_path / "mask.png"):
        read = mq.Control(net, Image.new("RGB", (8, 8)), mask=given).region
        assert np.abs(framed_mask(read, (24, 16))[0, 0].numpy() - wanted).max() < 1 / 255
    assert np.abs(framed_mask(image, (24, 16))[0, 0].numpy() - wanted).max() < 1 / 255


def test_an_edit_by_a_mask_painted_on_transparency(tmp_path) -> None:
    base, scene = tiny_base("sd15"), mq.diorama.scene(7).image.resize((64, 64))
    plain = Image.new("L", (64, 64))
    plain.paste(255, (20, 20, 40, 40))
    layer = Image.new("RGBA", (64, 64), (255, 255, 255, 0))
    layer.paste("white", (20, 20, 40, 40))
    layer.save(tmp_path / "layer.png")
    control = mq.Control(randomise(mq.ControlNet.attach(base)), scene)
    images = []
    for mask in (plain, layer, tmp_path / "layer.png"):
        inside = mq.Control(control.net, scene, mask=mask)
        made = mq.generate(base, "a", inside, image=scene, mask=mask, steps=2, size=(64, 64))[0]
        images.append(np.asarray(made))
        assert np.array_equal(images[-1][:20], np.asarray(scene)[:20])
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])
