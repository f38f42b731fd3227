"""What every detector must do, found through the registry."""

import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.detect import detectors

MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"]


def drawing(mode: str = "RGB", size: tuple[int, int] = (97, 61)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    picture.paste((200, 30, 30), (size[0] // 4, size[1] // 4, size[0] // 2 + 1, size[1] // 2 + 1))
    return Image.new(mode, size) if mode == "I;16" else picture.convert(mode)


@pytest.mark.parametrize("name", detectors)
@pytest.mark.parametrize("mode", MODES)
def test_any_mode_gives_rgb_of_its_own_size(name: str, mode: str) -> None:
    picture = drawing(mode)
    shown = mq.detect(name, picture)
    assert shown.mode == "RGB"
    assert shown.size == picture.size


@pytest.mark.parametrize("name", detectors)
@pytest.mark.parametrize("size", [(1, 1), (3, 200), (128, 128)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    assert mq.detect(name, drawing(size=size)).size == size


@pytest.mark.parametrize("name", detectors)
def test_same_picture_same_map_and_the_picture_is_left_alone(name: str) -> None:
    picture = drawing()
    before = np.asarray(picture).copy()
    first, second = (np.asarray(mq.detect(name, picture)) for _ in range(2))
    assert np.array_equal(first, second)
    assert np.array_equal(np.asarray(picture), before)
    assert first.any()


@pytest.mark.parametrize("name", detectors)
def test_a_blank_picture_has_an_empty_map(name: str) -> None:
    assert not np.asarray(mq.detect(name, Image.new("RGB", (40, 40), "white"))).any()


@pytest.mark.parametrize("name", detectors)
def test_unknown_options_are_refused(name: str) -> None:
    with pytest.raises(mq.errors.MaquetteError, match=f"no option of {name} 'hihg'"):
        mq.detect(name, drawing(), hihg=3)


def test_an_unknown_detector_is_answered_with_the_nearest() -> None:
    with pytest.raises(mq.errors.MaquetteError, match="did you mean 'canny'"):
        mq.detect("cany", drawing())


def test_canny_is_opencvs() -> None:
    import cv2

    picture = drawing()
    expected = cv2.Canny(cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2GRAY), 80, 160)
    assert np.array_equal(np.asarray(mq.detect("canny", picture, low=80, high=160))[..., 0], expected)
    with pytest.raises(mq.errors.MaquetteError, match="low=200 and high=100"):
        mq.detect("canny", picture, low=200, high=100)


def test_scribbles_are_seeded() -> None:
    picture = mq.diorama.scene(3).image
    draws = [np.asarray(mq.detect("scribble", picture, seed=seed)) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
