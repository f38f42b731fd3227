"""What a call of Python may be given by mistake is answered by a sentence."""

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.conditions import detect as detecting
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError


@pytest.fixture(scope="module")
def base() -> mq.Base:
    return tiny_base("sd15")


@pytest.fixture(scope="module")
def net(base) -> ControlNet:
    return randomise(ControlNet.attach(base))


CONDITIONS = {
    "0×0": Image.new("RGB", (0, 0)),
    "0×8": Image.new("RGB", (0, 8)),
    "empty": torch.zeros(1, 3, 0, 0),
    "no rows": torch.zeros(0, 3, 64, 64),
    "meta": torch.zeros(1, 3, 64, 64, device="meta"),
    "complex": torch.zeros(1, 3, 64, 64, dtype=torch.complex64),
    "sparse": torch.zeros(1, 3, 64, 64).to_sparse(),
    "three axes": torch.zeros(3, 64, 64),
    "not a number": torch.full((1, 3, 64, 64), float("nan")),
    "empty array": np.zeros((0, 0, 3), np.uint8),
    "complex array": np.zeros((64, 64, 3), complex),
    "objects": np.full((64, 64, 3), None),
    "empty list": [],
    "none": None,
    "a list of none": [None],
    "a missing file": "nowhere.png",
    "a name that no file has": "a\0.png",
}


@pytest.mark.parametrize("kind", CONDITIONS)
def test_conditions(net, kind) -> None:
    with pytest.raises(MaquetteError) as raised:
        mq.Control(net, CONDITIONS[kind])
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(
    "given",
    [
        {"controls": None}, {"controls": 5}, {"controls": [None]}, {"controls": "canny"}, {"prompt": "\ud83d"},
        {"prompt": ["a", "b\udc00"]}, {"negative_prompt": "\ud83d"}, {"prompt": None}, {"prompt": 5}, {"prompt": []},
        {"prompt": [None]}, {"count": 10**9}, {"count": 0}, {"image": Image.new("RGB", (0, 0))},
        {"image": Image.new("RGB", (64, 64)), "mask": Image.new("L", (0, 5))}, {"size": (0, 0)}, {"size": 64},
        {"image": np.zeros((0, 4, 3), np.uint8)},
    ],
)  # fmt: skip
def test_arguments_of_generate(base, given) -> None:
    with pytest.raises(MaquetteError) as raised:
        mq.generate(base, **{"prompt": "a", "steps": 1, "size": (64, 64), **given})
    assert len(str(raised.value)) < 500
    str(raised.value).encode()


def test_emoji_are_prompts(base) -> None:
    assert len(mq.generate(base, "🏠", steps=1, size=(64, 64), record=False)) == 1


@pytest.mark.parametrize("image", [Image.new("RGB", (0, 0)), Image.new("L", (5, 0)), None, "photo.png"])
def test_images_for_detectors(image) -> None:
    with pytest.raises(MaquetteError, match=r"pixels per side|take PIL images"):
        mq.detect("canny", image)


def test_detectors_say_how_large_an_image_may_be(monkeypatch) -> None:
    """Lines of LSD and the diorama's depth take 30 bytes of memory for each pixel."""
    monkeypatch.setattr(detecting, "MOST_PIXELS", 99)
    with pytest.raises(MaquetteError, match=r"has 99 pixels at most.*this one has 10×10"):
        mq.detect("canny", Image.new("RGB", (10, 10)))
