"""Maps of another size: thin lines stay whole and white, classes stay themselves, all else is resized smoothly."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from maquette.foundation.images import fit


def drawn(size: tuple[int, int], start: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros((size[1], size[0]), np.uint8)
    cv2.line(canvas, start, end, 255, 1)
    return canvas


def pieces(levels: np.ndarray) -> int:
    return cv2.connectedComponents(levels, connectivity=8)[0] - 1


@pytest.mark.parametrize("scale", [1.3, 2, 2.5, 3, 4, 7, 14, 31.7])
def test_a_shrunk_line_stays_one_thin_white_line(scale: float) -> None:
    rng = np.random.default_rng(int(scale * 10))
    side = round(64 * scale)
    for _ in range(60 if scale < 8 else 10):
        start, end = (tuple(rng.integers(0, side, 2).tolist()) for _ in range(2))
        length = max(abs(a - b) for a, b in zip(start, end, strict=True)) / scale  # in new pixels
        shrunk = np.asarray(fit(Image.fromarray(drawn((side, side), start, end)), (64, 64), "lines"))[..., 0]
        assert set(np.unique(shrunk)) <= {0, 255}
        if length > 2:
            assert pieces(shrunk) == 1
            assert length - 2 <= (shrunk > 0).sum() <= 2 * length + 3


def test_a_line_anywhere_is_kept_and_none_is_made_up() -> None:
    """The new pixels that a straight line passes through are those, and only those, that are on."""
    for x in range(200):
        upright = np.zeros((200, 200), np.uint8)
        upright[:, x] = 255
        shrunk = np.asarray(fit(Image.fromarray(upright), (64, 64), "lines"))[..., 0]
        on = np.flatnonzero(shrunk.any(axis=0))
        assert len(on) == 1 and shrunk[:, on].all()
        assert on[0] <= x * 64 / 200 + 0.5 and x * 64 / 200 - 1 <= on[0]


def test_dark_lines_on_light_stay_dark_and_noise_of_jpeg_makes_none() -> None:
    rng = np.random.default_rng(0)
    lines = drawn((256, 256), (10, 20), (240, 200))
    noisy = np.where(lines, 255 - rng.integers(0, 40, lines.shape), rng.integers(0, 40, lines.shape)).astype(np.uint8)
    clean, other = (np.asarray(fit(Image.fromarray(levels), (64, 64), "lines")) for levels in (lines, noisy))
    dark = np.asarray(fit(Image.fromarray(255 - lines), (64, 64), "lines"))
    assert (clean == other).all() and (dark == 255 - clean).all() and clean.any()


def test_enlarged_lines_are_white_or_black_and_cover_the_same_share() -> None:
    strokes = Image.fromarray(cv2.dilate(drawn((64, 64), (5, 9), (60, 40)), np.ones((3, 3), np.uint8)))
    larger = np.asarray(fit(strokes, (192, 192), "lines"))
    assert set(np.unique(larger)) == {0, 255}
    assert abs((larger > 0).mean() - (np.asarray(strokes) > 0).mean()) < 0.01


@pytest.mark.parametrize("size", [(90, 130), (64, 48), (31, 64)])
def test_classes_are_those_of_the_nearest_pixels(size: tuple[int, int]) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 3)).astype(np.uint8)
    classes = Image.fromarray(colours[np.random.default_rng(1).integers(0, 4, size[::-1])])
    fed = np.asarray(fit(classes, (64, 64), "classes")).reshape(-1, 3)
    assert {tuple(colour) for colour in fed.tolist()} <= {tuple(colour) for colour in colours.tolist()}


@pytest.mark.parametrize("kind", ["smooth", "lines", "classes"])
def test_an_image_of_that_size_is_unchanged(kind) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8))
    assert fit(image, (96, 64), kind).tobytes() == image.tobytes()


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_lines_are_cut_where_photographs_are(place: float) -> None:
    wide = np.zeros((64, 256), np.uint8)
    wide[:, 96:160] = 255
    as_lines, smooth = (np.asarray(fit(Image.fromarray(wide), (64, 64), kind, place)) for kind in ("lines", "smooth"))
    expected = np.asarray(ImageOps.fit(Image.fromarray(wide).convert("RGB"), (64, 64), centering=(place, place)))
    assert (as_lines == expected).all() and (smooth == expected).all()
