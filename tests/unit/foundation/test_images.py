import numpy as np
import pytest
from PIL import Image

from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb, fit, open_image


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F", "HSV"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    image = Image.new(mode, (4, 3))
    assert as_rgb(image).mode == "RGB"
    assert as_rgb(image).size == (4, 3)


def test_transparency_is_white() -> None:
    assert as_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bits_keep_their_range() -> None:
    image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    assert [as_rgb(image).getpixel((x, 0))[0] for x in (0, 1)] == [0, 255]


@pytest.mark.parametrize(("mode", "white"), [("I", 255), ("I", 65535), ("F", 1.0), ("F", 255.0)])
def test_other_levels_are_scaled_by_their_range(mode: str, white: float) -> None:
    assert as_rgb(Image.new(mode, (2, 2), white)).getpixel((0, 0)) == (255, 255, 255)


def test_exif_rotation_is_applied(tmp_path) -> None:
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_image(tmp_path / "turned.jpg").size == (2, 4)


def test_fit_covers_and_crops() -> None:
    image = Image.new("RGB", (300, 100))
    assert fit(image, (64, 64)).size == (64, 64)
    assert fit(image, (300, 100)).tobytes() == image.tobytes()


def test_bad_files_raise_a_clear_error(tmp_path) -> None:
    (tmp_path / "words.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    for name, message in {
        "absent.png": "There is no image",
        "words.png": "not an image",
        "empty.png": "not an image",
        "cut.png": "broken",
    }.items():
        with pytest.raises(MaquetteError, match=message):
            open_image(tmp_path / name)
