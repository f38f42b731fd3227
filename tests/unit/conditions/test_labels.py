"""Class numbers become the colours that their data set's class maps have, and are told from colours."""

import io
import warnings
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.conditions.drawing.class_maps import ADE20K, COCO_STUFF, DIORAMA_PALETTE, Classes, write_classes
from maquette.conditions.labels import COLOURS, colour_labels, palette_of, read_class_map, seem_numbers, unpainted
from maquette.errors import MaquetteError, MaquetteWarning

BLACK = (0, 0, 0)


def stored(image: Image.Image, **more) -> io.BytesIO:
    content = io.BytesIO()
    image.save(content, "PNG", **more)
    content.seek(0)
    return content


def colour_of(number: int, palette: str) -> tuple[int, ...]:
    return colour_labels(np.array([[number]]), palette).getpixel((0, 0))


def test_the_first_class_of_each_data_set_has_its_published_number() -> None:
    """ADE20K counts walls as 1 and says 0 for nothing; COCO-Stuff counts persons as 0 and says 255 for nothing."""
    assert (colour_of(0, "ade20k"), colour_of(1, "ade20k"), colour_of(150, "ade20k")) == (
        BLACK,
        (120, 120, 120),  # wall
        (92, 0, 255),  # flag
    )
    assert colour_of(255, "coco-stuff") == BLACK
    assert colour_of(0, "coco-stuff") == tuple(COCO_STUFF[1].tolist())  # person is 1 in its list
    assert colour_of(181, "coco-stuff") == tuple(COCO_STUFF[182].tolist())  # wood
    assert colour_of(9, "diorama") == tuple(DIORAMA_PALETTE[9].tolist())


@pytest.mark.parametrize("palette", COLOURS)
@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16"])
def test_every_pixel_has_its_own_class_whatever_the_mode(palette: str, mode: str) -> None:
    numbers = np.random.default_rng(0).choice([*range(len(COLOURS[palette])), 255], (40, 50))
    image = Image.fromarray(numbers.astype(np.uint16 if mode == "I;16" else np.uint8))
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image = image.convert("RGB") if mode == "RGB" else image
    found = np.asarray(read_class_map(stored(image), "map", palette))
    for y, x in np.ndindex(numbers.shape):  # the slow way
        expected = BLACK if numbers[y, x] == 255 else COLOURS[palette][numbers[y, x]]
        assert tuple(found[y, x]) == tuple(expected)


def test_the_coloured_map_is_one_that_the_detector_could_have_drawn() -> None:
    """The same class, numbered by the data set and by a network, has one colour."""
    network = np.random.default_rng(0).integers(0, 150, (20, 20))
    assert (np.asarray(colour_labels(network + 1, "ade20k")) == ADE20K[network]).all()


def test_what_is_no_class_is_refused() -> None:
    with pytest.raises(MaquetteError, match="'map': Class numbers of ade20k are 0 to 150, or 255 for nothing, not 151"):
        read_class_map(stored(Image.new("L", (4, 4), 151)), "map", "ade20k")
    with pytest.raises(MaquetteError, match="'map' holds colours, not class numbers; leave the palette out"):
        read_class_map(stored(Image.new("RGB", (4, 4), "red")), "map", "ade20k")
    with pytest.raises(MaquetteError, match="palette 'ade20'; did you mean 'ade20k'"):
        colour_labels(np.zeros((2, 2), int), "ade20")


def test_records_of_the_detector_name_their_palette_and_numbering(tmp_path) -> None:
    numbers = np.arange(150).reshape(10, 15)
    write_classes(Classes(numbers, "ade20k"), tmp_path / "kept.classes.png")
    for palette in (None, "ade20k"):
        found = read_class_map(tmp_path / "kept.classes.png", "kept", palette)
        assert (np.asarray(found) == ADE20K[numbers]).all()
    assert unpainted(tmp_path / "kept.classes.png", "kept") is None


def test_a_dark_image_of_one_channel_is_said_to_hold_numbers() -> None:
    labels = Image.fromarray(np.random.default_rng(0).choice([0, 3, 17, 150, 255], (30, 30)).astype(np.uint8))
    message = unpainted(stored(labels), "map")
    assert message is not None and "values up to 150" in message and "ade20k, coco-stuff, diorama" in message
    coloured = colour_labels(np.asarray(labels), "ade20k")
    mask = Image.fromarray((np.random.default_rng(0).integers(0, 2, (30, 30)) * 255).astype(np.uint8))
    for image in (coloured, mask, Image.new("L", (8, 8)), mask.convert("1"), Image.new("L", (8, 8), 230)):
        assert unpainted(stored(image), "map") is None
        assert (np.asarray(read_class_map(stored(image), "map")) == np.asarray(image.convert("RGB"))).all()


def test_numbers_are_told_from_maps_in_shades_of_grey() -> None:
    numbers = Image.fromarray(np.array([[0, 3, 120], [255, 3, 3]], np.uint8))
    assert seem_numbers(numbers) == seem_numbers(numbers.convert("RGB")) == 120
    shades = Image.fromarray(np.arange(120, dtype=np.uint8).reshape(10, 12))
    edges = Image.fromarray(np.array([[0, 255]], np.uint8))
    colours = colour_labels(np.array([[1, 2]]), "ade20k")
    assert [seem_numbers(image) for image in (shades, edges, colours, mq.diorama.scene(0).image)] == [None] * 4


def test_a_palette_is_told_by_its_colours() -> None:
    for palette in COLOURS:
        assert palette_of(colour_labels(np.array([[0, 1, 2, 5, 255]]), palette)) == palette
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    edges = Image.fromarray(np.array([[0, 255]], np.uint8)).convert("RGB")
    assert [palette_of(image) for image in (photo, edges, mq.diorama.scene(0).image)] == [None] * 3


def class_maps(size: int) -> tuple[Image.Image, Image.Image]:
    """Class numbers and the colours of the same classes."""
    numbers = np.arange(1, size * size + 1).reshape(size, size) % 20 + 1
    return Image.fromarray(numbers.astype(np.uint8)), colour_labels(numbers, "ade20k")


def test_published_controlnets_are_given_colours_that_stay_whole() -> None:
    base = tiny_base("sd15")
    net = randomise(mq.ControlNet.attach(base))
    assert not net.contract.stated

    def warned(condition: Image.Image) -> list[str]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", MaquetteWarning)
            mq.generate(base, "a", mq.Control(net, condition), steps=1, size=(64, 64))
        return [str(one.message) for one in caught]

    numbers, colours = class_maps(128)
    assert "as images of class numbers have" in " ".join(warned(numbers))
    assert "in the class colours of ade20k" in " ".join(warned(colours))
    assert not warned(class_maps(64)[1])  # of the images' size, nothing is averaged
    net.contract = replace(net.contract, categorical=True)
    assert not warned(colours)
    net.contract = replace(net.contract, stated=True, categorical=False)
    assert not warned(numbers)
