"""Resizing, cropping and flipping treat image and condition alike."""

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.conftest import image

from maquette.data.crop import CropView, ResizeCrop
from maquette.data.sources.jsonl import Example
from maquette.errors import MaquetteError


def marked(size: tuple[int, int]) -> Image.Image:
    """Red increases along x, green along y."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(320, 200), (200, 320)])
@pytest.mark.parametrize("buckets", [False, True])
def test_image_and_condition_share_one_frame(size, buckets) -> None:
    """With random crops and flips, and a condition at another scale: the same region in both."""
    example = Example(marked(size), marked((size[0] // 2, size[1] // 2)), "")
    framing = ResizeCrop((128, 128), buckets, crop="random", flip=0.5)
    seen = set()
    for seed in range(20):
        view = framing.view(np.random.default_rng(seed))
        framed = framing.frame(example, view)
        assert framed.image.size == framed.condition.size == framing.shape(size)
        apart = np.asarray(framed.image, int) - np.asarray(framed.condition, int)
        assert np.abs(apart).max() <= 4
        seen.add(framed.image.tobytes())
    assert len(seen) > 2


def test_classes_are_never_mixed() -> None:
    values = np.random.default_rng(0).choice([0, 100, 200], (90, 90, 3)).astype(np.uint8)
    framed = ResizeCrop((64, 64), kind="classes").frame(
        Example(image((90, 90)), Image.fromarray(values), ""), CropView()
    )
    assert set(np.unique(np.asarray(framed.condition))) <= {0, 100, 200}


def test_buckets_have_about_one_area_and_every_shape() -> None:
    framing = ResizeCrop((512, 512), buckets=True)
    shapes = framing.shapes()
    assert (512, 512) in shapes
    assert all(0.8 * 512**2 <= w * h <= 512**2 and w % 64 == h % 64 == 0 for w, h in shapes)
    assert framing.shape((1000, 1000)) == (512, 512)
    assert framing.shape((3000, 2000)) == (640, 384)
    wide, tall = framing.shape((5000, 1000)), framing.shape((1000, 5000))
    assert (wide, tall) == ((768, 320), (320, 768))


def test_frames_that_are_refused() -> None:
    with pytest.raises(MaquetteError, match="multiples of 64 pixels, not 100×64"):
        ResizeCrop((100, 64))
    with pytest.raises(MaquetteError, match="flip is a share"):
        ResizeCrop(flip=2)
    with pytest.raises(MaquetteError, match="'centre' or 'random', not 'left'"):
        ResizeCrop(crop="left")


def test_a_mirrored_view_is_the_mirror_of_the_other() -> None:
    example = Example(marked((64, 64)), marked((64, 64)), "")
    plain, mirrored = (ResizeCrop((64, 64)).frame(example, CropView(mirrored=flip)) for flip in (False, True))
    for image_, other in ((plain.image, mirrored.image), (plain.condition, mirrored.condition)):
        assert (np.asarray(image_)[:, ::-1] == np.asarray(other)).all()
        assert (np.asarray(image_) != np.asarray(other)).any()
    flips = [ResizeCrop((64, 64), flip=0.5).view(np.random.default_rng(seed)).mirrored for seed in range(200)]
    assert 70 < sum(flips) < 130
