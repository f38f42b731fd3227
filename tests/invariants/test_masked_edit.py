"""A masked edit leaves the original as it was, pixel for pixel, outside the mask, and blends into it inside."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from tests.conftest import tiny_base

import maquette as mq
from maquette.base import Base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import fit


@pytest.fixture(scope="module")
def base() -> Base:
    """Its autoencoder is random, so it returns nothing like what it is given."""
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def with_published_autoencoder(base) -> Base:
    """With Stable Diffusion's autoencoder: its blocks and its attention, a quarter as wide, on random weights."""
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(32, 64, 128, 128),
        layers_per_block=2,
        latent_channels=4,
    )
    return Base("wide", base.backbone, autoencoder, base.text, base.scheduler_config, 128)


def picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def box(size: tuple[int, int], area: tuple[int, int, int, int]) -> Image.Image:
    mask = Image.new("L", size)
    mask.paste(255, area)
    return mask


def array(image: Image.Image) -> np.ndarray:
    return np.asarray(image, np.int16)


def edit(base: Base, image, mask, **settings) -> list[Image.Image]:
    return mq.generate(base, "a", image=image, mask=mask, **{"steps": 3, "guidance": 2.0, **settings})


@pytest.mark.parametrize(
    ("size", "given", "area"),
    [
        ((64, 64), (64, 64), (20, 20, 50, 47)),
        ((128, 64), (128, 64), (0, 0, 64, 64)),
        ((64, 192), (64, 192), (63, 100, 64, 101)),  # one pixel
        ((64, 64), (64, 64), (31, 0, 33, 64)),  # two pixels wide
        ((64, 64), (131, 97), (40, 30, 90, 66)),  # cropped and made smaller
        ((128, 64), (50, 25), (0, 0, 25, 25)),  # enlarged
    ],
)
@pytest.mark.parametrize("feather", [None, 0, 20])
def test_outside_the_mask_not_one_pixel_differs(base, size, given, area, feather) -> None:
    original, mask = picture(*given), box(given, area)
    images = edit(base, original, mask, size=size, count=2, feather=feather)
    black = np.asarray(fit(mask, size)).max(axis=2) == 0
    framed = array(fit(original, size))
    assert len(images) == 2 and not np.array_equal(*map(array, images))
    for image in images:
        changed = (array(image) != framed).any(axis=2)
        assert not (changed & black).any()
        assert changed.any()


@pytest.mark.parametrize(("size", "area"), [((64, 128), (9, 33, 51, 90)), ((64, 64), (40, 40, 41, 42))])
def test_the_same_through_the_published_autoencoder(with_published_autoencoder, size, area) -> None:
    original, mask = picture(*size), box(size, area)
    for image in edit(with_published_autoencoder, original, mask, count=2):
        changed = (array(image) != array(original)).any(axis=2)
        assert changed.any() and not changed[np.asarray(mask) == 0].any()


def test_inside_it_is_what_was_generated_with_a_soft_edge(base) -> None:
    original, mask = picture(64, 64), box((64, 64), (16, 10, 64, 50))
    (image,) = edit(base, original, mask, feather=6)
    (generated,) = base.decode_latents(edit(base, original, mask, feather=6, returns="latents"))
    before, after, through = map(array, (original, image, generated))
    for y in range(64):
        for x in range(64):
            depth = min(x - 15, y - 9, 50 - y)  # the image's right border is no edge
            share = min(1.0, max(0, depth) / 6)
            assert np.abs(after[y, x] - (before[y, x] + share * (through[y, x] - before[y, x]))).max() <= 0.5 + 1e-3


def test_every_cell_around_the_mask_is_free(base) -> None:
    """A decoded pixel depends on the cells next to its own, too: what vanishes must not show through from them."""
    original, mask = picture(128, 128), box((128, 128), (48, 56, 65, 57))
    latents, kept = edit(base, original, mask, returns="latents"), base.encode_images([original])
    free = ~torch.isclose(latents, kept).all(dim=1)[0]
    expected = torch.zeros(16, 16, dtype=torch.bool)
    expected[6:9, 5:10] = True
    assert torch.equal(free, expected)


def test_a_white_mask_is_no_mask_and_a_black_one_is_refused(base) -> None:
    original = picture(64, 64)
    (free,) = mq.generate(base, "a", image=original, strength=0.7, steps=3)
    (white,) = mq.generate(base, "a", image=original, strength=0.7, steps=3, mask=Image.new("L", (64, 64), 255))
    assert np.array_equal(free, white)
    with pytest.raises(MaquetteError, match="black everywhere, so nothing may change"):
        edit(base, original, Image.new("L", (64, 64)))


def test_grey_is_a_share(base) -> None:
    original = picture(64, 64)
    grey, white = (array(edit(base, original, Image.new("L", (64, 64), level))[0]) for level in (51, 255))
    assert np.abs(grey - (array(original) + 0.2 * (white - array(original)))).max() <= 0.5 + 1e-3


def test_images_and_masks_may_be_arrays_or_paths(base, tmp_path) -> None:
    original, mask = picture(64, 64), box((64, 64), (20, 20, 50, 47))
    original.save(tmp_path / "original.png")
    (expected,) = edit(base, original, mask)
    for image, white in (
        (np.asarray(original), np.asarray(mask)),
        (tmp_path / "original.png", np.asarray(mask) > 0),
        (str(tmp_path / "original.png"), np.asarray(mask) / 255),
    ):
        assert np.array_equal(edit(base, image, white)[0], expected)


@pytest.mark.parametrize(("feather", "message"), [(-1, "from 0 to 128, not -1"), (2.5, "not 2.5"), (300, "not 300")])
def test_a_feather_out_of_range_is_refused(base, feather, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        edit(base, picture(64, 64), Image.new("L", (64, 64), 255), feather=feather)


def test_a_mask_of_another_shape_than_its_image_warns(base) -> None:
    mask = Image.new("L", (64, 128), 255)
    with pytest.warns(MaquetteWarning, match="mask is 64×128 pixels and its image 64×64: each is cropped"):
        edit(base, picture(64, 64), mask, steps=1)
    edit(base, picture(100, 64), Image.new("L", (64, 64), 255), steps=1, size=(64, 64))  # it has the result's size


def test_a_feather_without_a_mask_warns(base) -> None:
    with pytest.warns(MaquetteWarning, match="Feather has no effect without a mask"):
        mq.generate(base, "a", image=picture(64, 64), feather=4, steps=1)


def test_with_the_bundled_base() -> None:
    """Its autoencoder alone changes 76 % of the pixels of this scene, some by 71 levels."""
    base, scene = mq.load_base("diorama"), mq.diorama.scene(7).image
    mask = box((128, 128), (64, 40, 128, 100))
    (image,) = edit(base, scene, mask, steps=4)
    changed = np.abs(array(image) - array(scene)).max(axis=2)
    assert not changed[np.asarray(mask) == 0].any()
    assert changed[60:80, 80:110].mean() > 2
