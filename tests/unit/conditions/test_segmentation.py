"""Segmentation by networks of transformers on tiny random weights; palettes; records of class numbers."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from tests.unit.conditions.tiny_models import DEVIATION, MEAN, write_tiny, write_upernet
from torch import nn

import maquette as mq
from maquette.conditions.drawing.class_maps import (
    ADE20K,
    COCO,
    COCO_STUFF,
    COCO_STUFF_171,
    COCO_STUFF_182,
    PALETTES,
    Classes,
    class_map,
    draw_classes,
    read_classes,
    write_classes,
)
from maquette.errors import MaquetteError

NETWORKS = {"upernet": 150, "mask2former": 150, "oneformer": 133, "maskformer": 171}


def classes_of(image: Image.Image, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Class numbers (H, W) of an image painted in a palette (K, 3); the reverse of `class_map`.

    A colour that is not in the palette, as brushes leave at their rims, counts as the nearest one that is (RGB). Of
    classes with one colour it is the first.
    """
    pixels = np.asarray(image.convert("RGB"))
    colours, where = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True)
    apart = [((palette.astype(np.int32) - colour) ** 2).sum(axis=1).argmin() for colour in colours.astype(np.int32)]
    return np.array(apart, np.uint8)[where.ravel()].reshape(pixels.shape[:2])


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: write_tiny(name, tmp_path_factory.mktemp(name)) for name in NETWORKS}


@pytest.fixture
def without_scipy(monkeypatch) -> None:
    """Transformers' own classes are made without SciPy, which their losses alone use."""
    for name in ("maskformer", "mask2former", "oneformer"):
        monkeypatch.setattr(f"transformers.models.{name}.modeling_{name}.requires_backends", lambda *needed: None)


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy((np.asarray(image) / 255 - MEAN) / DEVIATION).float().permute(2, 0, 1)[None]


def photo(size: tuple[int, int] = (64, 64)) -> Image.Image:
    return mq.diorama.scene(3).image.resize(size)


def found(folder: Path, image: Image.Image) -> np.ndarray:
    (classes,) = mq.Detector("segmentation", folder, device="cpu").find([image])
    return classes.numbers


@torch.no_grad()
def test_upernet_is_that_of_transformers(folders) -> None:
    network = transformers.UperNetForSemanticSegmentation.from_pretrained(folders["upernet"])
    expected = network(pixels(photo())).logits.argmax(dim=1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found(folders["upernet"], photo()), expected)


@torch.no_grad()
def test_mask2former_is_that_of_transformers(folders, without_scipy) -> None:
    network = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(folders["mask2former"])
    network.eval()
    answer = network(pixels(photo()))
    masks = nn.functional.interpolate(answer.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
    scores = torch.einsum("bqc,bqhw->bchw", answer.class_queries_logits.softmax(-1)[..., :-1], masks)
    expected = scores.argmax(dim=1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found(folders["mask2former"], photo()), expected)


@torch.no_grad()
def test_maskformer_is_that_of_transformers(folders, without_scipy) -> None:
    network = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folders["maskformer"]).eval()
    answer = network(pixels(photo()))
    masks = nn.functional.interpolate(answer.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
    scores = torch.einsum("bqc,bqhw->bchw", answer.class_queries_logits.softmax(-1)[..., :-1], masks)
    expected = scores.argmax(dim=1)[0].numpy()
    assert len(np.unique(expected)) > 1
    (classes,) = mq.Detector("segmentation", folders["maskformer"], device="cpu").find([photo()])
    assert np.array_equal(classes.numbers, expected)
    assert classes.palette == "coco-stuff-171"


@torch.no_grad()
def test_oneformer_is_that_of_transformers(folders, without_scipy) -> None:
    network = transformers.OneFormerForUniversalSegmentation.from_pretrained(folders["oneformer"]).eval()
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folders["oneformer"])
    tokens = tokenizer("the task is semantic", padding="max_length", max_length=77)
    task = torch.tensor(tokens["input_ids"]) * torch.tensor(tokens["attention_mask"])
    answer = network(pixels(photo()), task_inputs=task[None])
    masks = nn.functional.interpolate(answer.masks_queries_logits, (64, 64), mode="bilinear").sigmoid()
    scores = torch.einsum("bqc,bqhw->bchw", answer.class_queries_logits.softmax(-1)[..., :-1], masks)
    expected = scores.argmax(dim=1)[0].numpy()
    assert len(np.unique(expected)) > 1
    assert np.array_equal(found(folders["oneformer"], photo()), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_maps_have_colours_of_the_palette_alone(folders, name: str) -> None:
    detector = mq.Detector("segmentation", folders[name], device="cpu")
    images = [photo(size) for size in ((97, 61), (64, 64), (61, 97), (2000, 10), (1, 1))]
    table = {150: ADE20K, 133: COCO, 171: COCO_STUFF_171}[NETWORKS[name]]
    palette = {tuple(colour) for colour in table}
    for image, drawn in zip(images, detector(images), strict=True):
        assert drawn.size == image.size
        assert {tuple(colour) for colour in np.asarray(drawn).reshape(-1, 3)} <= palette
        alone = np.asarray(detector(image))
        assert (alone != np.asarray(drawn)).any(axis=-1).mean() < 1e-3  # rounding may tip a tie


def test_larger_maps_are_the_working_ones_nearest(folders) -> None:
    small = found(folders["upernet"], photo((64, 64)))
    large = found(folders["upernet"], photo((64, 64)).resize((128, 128), Image.Resampling.NEAREST))
    assert np.array_equal(large, small.repeat(2, axis=0).repeat(2, axis=1))


def test_classes_without_a_palette_are_refused(tmp_path) -> None:
    with pytest.raises(
        MaquetteError, match="have 7 classes, for which there is no palette; use weights for ade20k of 150"
    ):
        mq.Detector("segmentation", write_upernet(tmp_path, labels=7), device="cpu")


def digest(table: np.ndarray) -> str:
    return hashlib.sha256(table.tobytes()).hexdigest()[:16]


def test_palettes_are_the_published_ones() -> None:
    """Digests of the tables as they stand in their public sources, read from there and not from this package."""
    assert (len(ADE20K), len(COCO), len(COCO_STUFF)) == (150, 133, 183)
    assert digest(ADE20K) == "ce475c9151035eff"
    assert digest(COCO) == "efcc320916d0acb3"
    assert digest(COCO_STUFF) == "6246da4fa2032073"
    assert len({tuple(colour) for colour in COCO_STUFF}) == 183
    assert tuple(ADE20K[12]) == (150, 5, 61)  # person
    assert tuple(COCO[0]) == (220, 20, 60)  # person


# category ids of COCO's 80 objects, as pycocotools lists them
THINGS = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]


def test_a_class_of_coco_stuff_has_one_colour_however_it_is_numbered() -> None:
    ids = [*THINGS, *range(92, 183)]
    assert (len(THINGS), len(COCO_STUFF_171), len(COCO_STUFF_182)) == (80, 171, 182)
    by_id = draw_classes(Classes(np.array([ids]), "coco-stuff"))
    assert draw_classes(Classes(np.array([ids]) - 1, "coco-stuff-182")) == by_id
    assert draw_classes(Classes(np.arange(171)[None], "coco-stuff-171")) == by_id


@pytest.mark.parametrize("name", PALETTES)
def test_nothing_is_black_in_every_palette(tmp_path, name: str) -> None:
    numbers = np.array([[0, 255], [255, len(PALETTES[name]) - 1]])
    write_classes(Classes(numbers, name), tmp_path / "one.classes.png")
    drawn = np.asarray(draw_classes(read_classes(tmp_path / "one.classes.png")))
    assert not drawn[numbers == 255].any()
    assert np.array_equal(drawn[numbers < 255], PALETTES[name][numbers[numbers < 255]])


@pytest.mark.parametrize("name", PALETTES)
def test_painted_images_are_read_back(name: str) -> None:
    palette = PALETTES[name]
    numbers = np.random.default_rng(0).integers(0, len(palette), (30, 40))
    back = classes_of(class_map(numbers, palette), palette)
    assert np.array_equal(palette[back], palette[numbers])
    differs = numbers != back
    assert set(numbers[differs]) <= ({48} if name == "ade20k" else set())  # a skyscraper has a road's colour
    near = Image.fromarray(np.clip(np.asarray(class_map(numbers, palette), int) + 1, 0, 255).astype(np.uint8))
    assert (classes_of(near, palette) == back).mean() > 0.95


@pytest.mark.parametrize(("largest", "mode"), [(149, "L"), (300, "I;16")])
def test_records_come_back_as_they_were(tmp_path, largest: int, mode: str) -> None:
    path = tmp_path / "one.classes.png"
    numbers = np.random.default_rng(0).integers(0, largest + 1, (30, 40))
    numbers[0, 0] = largest
    write_classes(Classes(numbers, "coco"), path)
    with Image.open(path) as image:
        assert image.mode == mode
    back = read_classes(path)
    assert back.palette == "coco"
    assert np.array_equal(back.numbers, numbers)


def test_files_without_class_numbers_are_refused(tmp_path) -> None:
    photo().save(tmp_path / "photo.classes.png")
    with pytest.raises(MaquetteError, match="holds colours, not class numbers"):
        read_classes(tmp_path / "photo.classes.png")
    (tmp_path / "page.classes.png").write_text("<html>")
    with pytest.raises(MaquetteError, match="is not an image"):
        read_classes(tmp_path / "page.classes.png")
    with pytest.raises(MaquetteError, match="There is no image"):
        read_classes(tmp_path / "absent.classes.png")
    with pytest.raises(MaquetteError, match="has classes 0 to 149, no 150"):
        draw_classes(Classes(np.full((2, 2), 150), "ade20k"))
    with pytest.raises(MaquetteError, match="no palette 'ade'"):
        draw_classes(Classes(np.zeros((2, 2), int), "ade"))


def test_class_numbers_beyond_the_limit_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "large.classes.png"
    write_classes(Classes(np.zeros((30, 40), int), "coco"), path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(MaquetteError, match="unpacks to more than 200 pixels"):
        read_classes(path)
