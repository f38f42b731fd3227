"""The contract of all registered detectors; networks run on tiny random weights, written here."""

import io
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.unit.conditions import random_weights, tiny_models, tiny_pose

import maquette as mq
from maquette.conditions import registry
from maquette.conditions.registry import detectors, one_detector, table
from maquette.conditions.spec import Options
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import open_image

NAMES = list(detectors)
MAPS = [name for name in NAMES if not detectors[name].outputs_text]
DRAWN = ["canny", "hough", "lsd", "scribble", "softedge", "xdog"]
"""Detectors of lines, whose map of a blank image is black."""

WRITERS: dict[str, Callable[[str, Path], Path]] = {
    **dict.fromkeys(["hed", "mlsd", "lineart", "lineart_anime"], random_weights.write_random),
    **dict.fromkeys(["depth", "normal", "segmentation", "caption"], tiny_models.write_tiny),
    **dict.fromkeys(["pose", "pose_pifpaf"], tiny_pose.write_tiny),
}


COARSE = {name: {"resolution": 64} for name in ("hed", "mlsd", "lineart", "lineart_anime")}
"""Options that make large networks faster."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Callable[[str], Callable[..., Any]]:
    """A detector by name, opened once."""
    loaded: dict[str, Callable[..., Any]] = {}

    def get(name: str) -> Callable[..., Any]:
        if name not in loaded:
            weights = None if detectors[name].offline else WRITERS[name](name, tmp_path_factory.mktemp(name))
            loaded[name] = partial(mq.Detector(name, weights, device="cpu"), **COARSE.get(name, {}))
        return loaded[name]

    return get


def drawing(size: tuple[int, int] = (97, 61)) -> Image.Image:
    image = Image.new("RGB", size, "white")
    image.paste((200, 30, 30), (size[0] // 4, size[1] // 4, size[0] // 2 + 1, size[1] // 2 + 1))
    return image


def stored(image: Image.Image, kind: str, **options: object) -> Image.Image:
    """The image, saved and opened again."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return Image.open(file)


def turned() -> Image.Image:
    """The drawing rotated by 90 degrees, with an EXIF orientation that undoes it."""
    on_its_side = drawing().transpose(Image.Transpose.ROTATE_90)
    exif = on_its_side.getexif()
    exif[0x0112] = 6  # turn by 90 degrees, clockwise
    return stored(on_its_side, "PNG", exif=exif)


def see_through() -> Image.Image:
    """The drawing, with its white paper transparent over another colour."""
    pixels = np.dstack([np.asarray(drawing()), np.full((61, 97), 255, np.uint8)])
    pixels[(pixels[..., :3] == 255).all(axis=2)] = (0, 90, 0, 0)
    return Image.fromarray(pixels)


SAME: dict[str, Callable[[], Image.Image]] = {
    "transparent": see_through,
    "turned by EXIF": turned,
    "palette": lambda: drawing().quantize(2),
    "animated": lambda: stored(drawing(), "PNG", save_all=True, append_images=[Image.new("RGB", (97, 61))]),
    "alpha": lambda: drawing().convert("RGBA"),
}
"""Images that look like the drawing."""

ODD: dict[str, Callable[[], Image.Image]] = {
    "one bit": lambda: drawing().convert("1"),
    "grey": lambda: drawing().convert("L"),
    "16 bits": lambda: Image.fromarray(np.asarray(drawing().convert("L")).astype(np.uint16) * 257),
    "floats": lambda: drawing().convert("F"),
    "CMYK": lambda: stored(drawing().convert("CMYK"), "JPEG"),
    "one pixel": lambda: drawing((1, 1)),
    "a strip": lambda: drawing((20_000, 10)),
    "upright strip": lambda: drawing((3, 200)),
    "blank": lambda: Image.new("RGB", (40, 40), "white"),
    "black": lambda: Image.new("RGB", (64, 48)),
}


def test_names_are_there_before_any_detector_is_imported() -> None:
    program = """
import sys
from maquette.conditions.detect import Detector
from maquette.conditions.registry import detectors

assert len(detectors) > 10 and "canny" in detectors
assert not [name for name in sys.modules if name.startswith("maquette.conditions.detectors")]
assert not {"cv2", "torch"} & set(sys.modules)
Detector("canny")
loaded = [name for name in sys.modules if name.startswith("maquette.conditions.detectors.")]
assert loaded == ["maquette.conditions.detectors.canny"], loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_is_registered_under_its_own_name(name: str) -> None:
    assert detectors[name].name == name


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("what", ODD)
def test_odd_images_have_a_map_of_their_own_size(opened, name: str, what: str) -> None:
    image = ODD[what]()
    shown = opened(name)(image)
    assert shown.mode == "RGB"
    assert shown.size == image.size


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", SAME)
def test_a_image_is_what_the_eye_sees(opened, name: str, what: str) -> None:
    detector = opened(name)
    shown, expected = detector(SAME[what]()), detector(drawing())
    assert shown == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_same_alone_among_others_and_again(opened, name: str) -> None:
    detector = opened(name)
    images = [drawing(), mq.diorama.scene(3).image, drawing((64, 80)), drawing()]
    before = [np.asarray(image).copy() for image in images]
    alone = [detector(image) for image in images]
    for together in (detector(images), [detector(image) for image in images[-1:]]):
        for expected, result in zip(alone[-len(together) :], together, strict=True):
            if isinstance(expected, str):
                assert expected == result
            else:
                error = np.abs(np.asarray(expected).astype(int) - np.asarray(result))
                assert error.max() <= 1 or (error > 1).mean() < 1e-3  # rounding may tip a threshold
    assert all(np.array_equal(pixels, np.asarray(image)) for pixels, image in zip(before, images, strict=True))
    assert detector([]) == []


@pytest.mark.parametrize("name", DRAWN)
def test_a_blank_image_has_an_empty_map(opened, name: str) -> None:
    assert not np.asarray(opened(name)(Image.new("RGB", (40, 40), "white"))).any()
    assert np.asarray(opened(name)(drawing())).any()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_options_are_refused_before_weights_are_fetched(name: str) -> None:
    with pytest.raises(MaquetteError, match=f"no option of {name} 'hihg'"):
        mq.detect(name, drawing(), hihg=3)


@pytest.mark.parametrize("name", NAMES)
def test_options_say_what_they_mean_and_keep_their_range(name: str) -> None:
    options: type[Options] = detectors[name].options
    for option in options.described():
        assert option.words.endswith("."), f"{name}'s {option.name} does not say what it means"
        with pytest.raises(MaquetteError, match=option.name):
            options.given(name, {option.name: object()})
    assert name in table()
    assert name in one_detector(name)


@pytest.mark.parametrize("name", [name for name in NAMES if not detectors[name].offline])
def test_without_weights_a_sentence_says_what_is_missing_and_how_it_is_had(name: str, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MaquetteError, match=r"(?s)MB.*hf download"):
        mq.detect(name, drawing())
    with pytest.raises(MaquetteError, match=f"no weights of {name} 'absent'"):
        mq.detect(name, drawing(), weights="absent")


@pytest.mark.parametrize("name", [name for name in NAMES if not detectors[name].offline])
def test_what_is_no_weights_is_refused(name: str, tmp_path) -> None:
    (tmp_path / "page.pth").write_text("<html>Not found</html>")
    with pytest.raises(MaquetteError):
        mq.detect(name, drawing(), weights=tmp_path / "page.pth")


def test_broken_files_are_reported(tmp_path) -> None:
    drawing().save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    with pytest.raises(MaquetteError, match="broken"):
        open_image(tmp_path / "cut.png")
    with Image.open(tmp_path / "cut.png") as cut, pytest.raises(MaquetteError, match="cannot be read"):
        mq.detect("canny", cut)
    for size, message in (((0, 3), "0×3"), ((40_000, 1), "40000×1")):
        with pytest.raises(MaquetteError, match=message):
            mq.detect("canny", Image.new("RGB", size))


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch) -> None:
    drawing((400, 400)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(MaquetteError, match="unpacks to more than 2,000 pixels"):
        open_image(tmp_path / "bomb.png")


def test_an_unknown_detector_is_answered_with_the_nearest() -> None:
    with pytest.raises(MaquetteError, match="did you mean 'canny'"):
        mq.detect("cany", drawing())


def test_weights_for_a_detector_that_has_none_are_refused() -> None:
    with pytest.raises(MaquetteError, match="canny takes no weights"):
        mq.detect("canny", drawing(), weights="best")


def test_a_function_becomes_a_detector_in_a_line(monkeypatch) -> None:
    monkeypatch.setattr(detectors, "_entries", dict(detectors._entries))
    mq.register_detector("flat", lambda image, level=7: Image.new("RGB", image.size, (level, 0, 0)), "one red")
    assert mq.detect("flat", drawing(), level=9).getpixel((0, 0)) == (9, 0, 0)
    assert "one red" in table()
    with pytest.raises(MaquetteError, match="no option of flat 'lvel'"):
        mq.detect("flat", drawing(), lvel=9)
    with pytest.raises(MaquetteError, match="none for level"):
        mq.register_detector("bare", lambda image, level: image)
    with pytest.raises(MaquetteError, match="a detector 'canny' already"):
        mq.register_detector("canny", lambda image: image)
    with pytest.raises(MaquetteError, match="cannot be called 'unfit'"):
        mq.register_detector("odd", lambda image, unfit=1: image)
    with pytest.raises(MaquetteError, match="numbers, strings or None"):
        mq.register_detector("odd", lambda image, levels=[1]: image)
    mq.register_detector("flat", lambda image: Image.new("L", (3, 3)))  # again, as a notebook cell run twice
    with pytest.raises(MaquetteError, match="returns a PIL image of the input's size"):
        mq.detect("flat", drawing())


def test_a_broken_entry_point_takes_no_other_detector_away(monkeypatch) -> None:
    class Broken:
        name, value = "broken", "nowhere:draw"

        def load(self) -> None:
            raise ModuleNotFoundError("No module named 'nowhere'")

    monkeypatch.setattr(registry, "entry_points", lambda group: [Broken()])
    registry.load_others.cache_clear()
    with pytest.warns(MaquetteWarning, match="'broken' cannot be loaded: No module named 'nowhere'"):
        assert "canny" in table()
    registry.load_others.cache_clear()


@pytest.mark.parametrize("name", MAPS)
def test_the_global_random_state_is_untouched(opened, name: str) -> None:
    before = torch.get_rng_state()
    detector = mq.Detector(name) if detectors[name].offline else opened(name)
    detector(drawing())
    assert torch.equal(before, torch.get_rng_state())


def test_canny_is_opencvs() -> None:
    import cv2

    image = drawing()
    expected = cv2.Canny(cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2GRAY), 80, 160)
    assert np.array_equal(np.asarray(mq.detect("canny", image, low=80, high=160))[..., 0], expected)
    with pytest.raises(MaquetteError, match="low=200 and high=100"):
        mq.detect("canny", image, low=200, high=100)


def test_scribbles_are_seeded() -> None:
    image = mq.diorama.scene(3).image
    maps = [np.asarray(mq.detect("scribble", image, seed=seed)) for seed in (1, 1, 2)]
    assert np.array_equal(maps[0], maps[1])
    assert not np.array_equal(maps[0], maps[2])
