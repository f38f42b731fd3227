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


def test_a_caption_cut_short_stays_below_its_image() -> None:
    red = Image.new("RGB", (224, 224), "red")
    caption = "a white house with a blue roof and a green round tree on the grass"
    sheet = image_grid([[red, red]], captions=[[caption, ""]])
    right = sheet.crop((2 + 224 + 2, 2 + 224, *sheet.size)).getcolors()
    assert right is not None and len(right) == 1


def test_images_keep_their_shape() -> None:
    wide = Image.new("RGB", (256, 64), "red")
    sheet = image_grid([[wide, wide]], tile=64)
    assert [sheet.getpixel((34, y)) == (255, 0, 0) for y in (8, 34, 60)] == [False, True, False]
