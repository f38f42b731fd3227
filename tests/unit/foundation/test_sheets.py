from PIL import Image

from maquette.foundation.images import image_grid


def test_rows_labels_and_captions_fit() -> None:
    red = Image.new("RGB", (32, 32), "red")
    plain = image_grid([[red, red], [red]])
    assert plain.size == (2 + 2 * 34, 2 + 2 * 34)
    assert plain.getpixel((10, 10)) == (255, 0, 0)
    labelled = image_grid([[red, red]], labels=["a row"], captions=[["some words that go on", "b"]], tile=64)
    assert labelled.width > 2 * 64
    assert labelled.height > 64
