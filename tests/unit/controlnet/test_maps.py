"""Conditions and masks as images, paths, arrays, tensors and lists; anything else is refused by a sentence."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.controlnet.maps import read_maps
from maquette.errors import MaquetteError, MaquetteWarning

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def net(base) -> mq.ControlNet:
    return randomise(mq.ControlNet.attach(base))


def images(base, net, condition, **settings) -> np.ndarray:
    control = mq.Control(net, condition)
    return np.stack([np.asarray(image) for image in mq.generate(base, "a", control, steps=2, **settings)])


def test_every_kind_of_condition_gives_the_same_images(base, net, tmp_path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for image, path in zip(IMAGES, paths, strict=True):
        image.save(path)
    tensor = torch.from_numpy(PIXELS).movedim(-1, 1).float() / 255
    one = images(base, net, IMAGES[0])
    for condition in (paths[0], str(paths[0]), PIXELS[0], PIXELS[0].astype(np.float32) / 255, tensor[:1], [IMAGES[0]]):
        assert np.array_equal(images(base, net, condition), one)
    two = images(base, net, IMAGES, count=2)
    assert not np.array_equal(two[0], two[1])
    for condition in (tuple(paths), [str(paths[0]), IMAGES[1]], PIXELS, PIXELS / 255, tensor):
        assert np.array_equal(images(base, net, condition, count=2), two)


def test_grey_and_boolean_arrays_are_grey_images() -> None:
    grey = PIXELS[0, :, :, 0]
    (image,) = read_maps(grey)
    assert np.array_equal(np.asarray(image), np.repeat(grey[..., None], 3, axis=-1))
    (image,) = read_maps(grey > 100)
    assert np.array_equal(np.asarray(image)[..., 0], (grey > 100) * 255)
    assert read_maps(grey / 255).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (None, "not NoneType"),
        (7, "not int"),
        ([], "not a list of nothing"),
        ([IMAGES[0], 3], "not a list of Image, int"),
        ("nowhere.png", "no image at 'nowhere.png'"),
        ([Path("nowhere.png")], "no image at 'nowhere.png'"),
        (PIXELS.astype(np.int64), "bytes, or floats from 0 to 1, not int64"),
        (PIXELS[0].astype(np.float32), "from 0 to 1 .*, not 0 to 255"),
        (PIXELS[..., :2], r"not \(2, 64, 64, 2\)"),
        (np.zeros((0, 64, 3), np.uint8), r"not \(0, 64, 3\)"),
        (torch.zeros(0, 3, 64, 64), "has pixels"),
        (torch.zeros(7), r"condition tensor is \(1 or N, 3, height, width\).*, not \(7,\)"),
    ],
)
def test_anything_else_is_refused(net, condition, message) -> None:
    with pytest.raises(MaquetteError, match=message):
        mq.Control(net, condition)


def test_a_list_has_one_map_for_each_image(base, net) -> None:
    with pytest.raises(MaquetteError, match=r"\(1 or 3, 3, height, width\).*one map for each image"):
        images(base, net, IMAGES, count=3)


def test_an_empty_map_and_a_small_one_warn(base, net) -> None:
    with pytest.warns(MaquetteWarning, match="condition of control 1 of 1 is black everywhere"):
        images(base, net, Image.new("RGB", (64, 64)))
    with pytest.warns(MaquetteWarning, match="control 1 of 1, 16×16 pixels, is enlarged to 64×64"):
        images(base, net, IMAGES[0].resize((16, 16)), size=(64, 64))
    images(base, net, IMAGES[0].resize((32, 32)), size=(64, 64))  # no warning


def test_float16_on_a_cpu_and_a_guidance_of_0_warn() -> None:
    base = tiny_base("sd15")
    with pytest.warns(MaquetteWarning, match="At a guidance of 0 the prompt has no effect"):
        mq.generate(base, "a", guidance=0, steps=1, size=(64, 64))
    for module in (base.backbone.network, base.text.text_encoders[0].encoder):
        module.half()
    with pytest.warns(MaquetteWarning, match="In float16 a CPU is slow"):
        mq.generate(base, "a", steps=1, size=(64, 64))


def test_a_map_in_place_of_features_is_refused_by_a_sentence(base, net) -> None:
    latents, text, map_ = torch.zeros(1, 4, 8, 8), torch.zeros(1, 7, 24), torch.zeros(1, 3, 64, 64)
    for wrong in (map_, torch.zeros(3, 64, 64), net.encode(torch.zeros(1, 3, 128, 128))):
        with pytest.raises(MaquetteError, match=r"takes features \(1 or 1, 16, 8, 8\).*first: net.encode\(map\)"):
            net(latents, 5, text, wrong)
    assert len(net(latents, 5, text, net.encode(map_))) == 13
