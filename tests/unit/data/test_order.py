"""One order everywhere: maps from shards, from detection while training and from use are the same, bit by bit."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.data.conftest import as_folder, encoded, image

from maquette.annotation.annotate import Job, ShardWriter, annotate
from maquette.annotation.annotation import Annotation
from maquette.annotation.output import Target
from maquette.conditions.detect import Detector, detect
from maquette.conditions.labels import colour_labels
from maquette.conditions.registry import detectors, register_detector
from maquette.conditions.requirements import kind_of
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.random_detectors import draw_named
from maquette.data.ready_maps import order_of, warnings_of
from maquette.data.sources.jsonl import Columns
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError
from maquette.foundation.images import fit, open_image

PHOTOS = Path(__file__).resolve().parents[4] / "shared/data/photos"
SIZES = [(400, 300), (300, 500), (128, 128), (100, 90), (640, 200)]
VIEW = CropView()


def pictured(size: tuple[int, int], seed: int) -> Image.Image:
    """Smooth blobs with fine structure, in which the size changes what is an edge."""
    coarse = image((size[0] // 16, size[1] // 16), seed).resize(size, Image.Resampling.BICUBIC)
    fine = image((size[0] // 2, size[1] // 2), seed + 50).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.4)


@pytest.fixture
def folder(tmp_path) -> Path:
    stored = [
        {"image": encoded(pictured(size, seed)), "condition": encoded(image(size, seed)), "text": str(seed)}
        for seed, size in enumerate(SIZES)
    ]
    return as_folder(stored, tmp_path / "source")


def annotated(source: Path, target: Path, **settings) -> Path:
    def in_process(job, rows, shards, tick) -> None:
        writer = ShardWriter.open(job, rows)
        for shard in shards:
            tick(writer.write(shard))

    annotation = Annotation(str(source), **{"condition": "canny", **settings})
    annotate(Job(annotation, Target(target), "cpu"), in_process)
    return target


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("buckets", [False, True])
@pytest.mark.parametrize("seed", [None, 5])
def test_maps_of_shards_of_training_and_of_use_are_equal(folder, tmp_path, buckets, seed) -> None:
    """Without a seed with Canny's thresholds, with one with those that it draws."""
    options = {} if seed is None else {"seed": seed}
    target = annotated(folder, tmp_path / "out", size=(128, 128), buckets=buckets, options=options)
    framing = ResizeCrop((128, 128), buckets, kind=kind_of("canny"))
    ready = SourcePairs.open("canny", open_source(target), framing)
    while_training = SourcePairs.open(
        "canny",
        open_source(folder, Columns(has_conditions=False)),
        framing,
        lambda framed, rng: detect("canny", framed, **options),
    )
    for row, size in enumerate(SIZES):
        frame = framing.shape(size)
        stored, detected = ready.pair(row, VIEW, None), while_training.pair(row, VIEW, None)
        assert stored.condition is not None and detected.condition is not None
        assert stored.image.size == stored.condition.size == ready.shape(row) == frame
        photo = open_image(folder / f"{row}.png")
        in_use = Detector("canny").in_frame(photo, frame, **options)
        framed_first = detect("canny", fit(photo, frame), **options)
        assert (pixels(stored.image) == pixels(detected.image)).all()
        for other in (detected.condition, in_use, framed_first, ready.condition_map(row, VIEW, None)):
            assert (pixels(stored.condition) == pixels(other)).all()
        assert pixels(stored.condition).any()
    assert order_of(ready) == order_of(while_training) == "frame, then detect"
    assert not list(warnings_of(ready))


def test_detection_while_training_sees_framed_images(folder) -> None:
    """The random detectors of training, with the thresholds that they draw."""
    framing = ResizeCrop((128, 128), flip=0.5)
    pairs = SourcePairs.open("canny", open_source(folder, Columns(has_conditions=False)), framing, draw_named("canny"))
    for row in range(len(SIZES)):
        view = CropView(mirrored=bool(row % 2))
        expected = draw_named("canny")(pairs.image(row, view), np.random.default_rng(row))
        found = pairs.pair(row, view, np.random.default_rng(row)).condition
        assert found is not None and (pixels(found) == pixels(expected)).all()


def test_shards_say_the_size_of_their_maps_and_keep_the_bytes_that_fit(folder, tmp_path) -> None:
    target = annotated(folder, tmp_path / "framed", size=(128, 128))
    assert json.loads((target / ".annotation" / "settings.json").read_text())["size"] == [128, 128]
    opened = open_source(target)
    assert opened[2].image.read() == (folder / "2.png").read_bytes()  # it has the frame's size
    own = annotated(folder, tmp_path / "own", size=None)
    assert json.loads((own / ".annotation" / "settings.json").read_text())["size"] is None
    assert [row.image.read() for row in open_source(own)] == [(folder / f"{n}.png").read_bytes() for n in range(5)]
    with pytest.raises(MaquetteError, match="was started with size None, not \\[512, 512\\]"):
        annotated(folder, tmp_path / "own")


def test_shards_of_before_0_3_resume_at_the_images_own_size(folder, tmp_path) -> None:
    own = annotated(folder, tmp_path / "own", size=None)
    path = own / ".annotation" / "settings.json"
    saved = json.loads(path.read_text())
    del saved["size"], saved["check"]
    path.write_text(json.dumps(saved))
    annotated(folder, tmp_path / "own", size=None)


def test_a_frame_of_an_annotation_is_one_of_training(folder, tmp_path) -> None:
    with pytest.raises(MaquetteError, match="multiples of 64 pixels, not 100×100"):
        annotated(folder, tmp_path / "out", size=(100, 100))
    with pytest.raises(MaquetteError, match="Buckets are frames of about the area of --size"):
        annotated(folder, tmp_path / "out", size=None, buckets=True)


def test_maps_of_another_size_are_resized_whole_and_said_to_be(folder, tmp_path) -> None:
    """Their order is the other one, in which use detects at the photograph's own size and resizes as training did."""
    own = annotated(folder, tmp_path / "own", size=None)
    pairs = SourcePairs.open("canny", open_source(own), ResizeCrop((64, 64), kind=kind_of("canny")))
    assert order_of(pairs) == "detect, then resize"
    (warning,) = warnings_of(pairs)
    assert "canny maps of 400×300, which training resizes to 64×64" in warning and "--size 64x64" in warning
    for row in range(len(SIZES)):
        trained = pairs.condition_map(row, VIEW, None)
        assert set(np.unique(pixels(trained))) <= {0, 255}
        photo = open_image(folder / f"{row}.png")
        in_use = Detector("canny").in_frame(photo, (64, 64), "detect, then resize")
        assert (pixels(in_use) == pixels(trained)).all()
        if max(photo.size) > 300:
            assert (pixels(Detector("canny").in_frame(photo, (64, 64))) != pixels(trained)).any()


@pytest.mark.parametrize("name", ["canny", "scribble", "hough", "lsd"])
def test_detectors_of_lines_draw_white_on_black_alone(name: str) -> None:
    assert detectors[name].kind == "lines"
    found = pixels(detect(name, pictured((300, 200), 1)))
    assert set(np.unique(found)) <= {0, 255} and found.mean() < 128


def test_a_user_s_detector_says_the_kind_of_its_maps(monkeypatch) -> None:
    monkeypatch.setattr(detectors, "_entries", dict(detectors._entries))
    for name, more in (("mine", {"lines": True}), ("yours", {"categorical": True}), ("theirs", {})):
        register_detector(name, lambda image: image, **more)
    assert [kind_of(name) for name in ("mine", "yours", "theirs")] == ["lines", "classes", "smooth"]
    assert kind_of("theirs", categorical=True) == "classes"


def test_nothing_is_said_of_maps_of_no_known_detector(folder) -> None:
    pairs = SourcePairs.open("rings", open_source(folder), ResizeCrop((64, 64), kind=kind_of("rings")))
    assert order_of(pairs) is None and not list(warnings_of(pairs))


def test_class_numbers_are_read_in_their_colours(tmp_path) -> None:
    numbers = np.random.default_rng(0).integers(0, 151, (64, 96))
    stored = {"image": encoded(image()), "condition": encoded(Image.fromarray(numbers.astype(np.uint8))), "text": ""}
    source = open_source(as_folder([stored], tmp_path / "source"))
    framing = ResizeCrop((64, 64), kind=kind_of("segmentation"))
    pairs = SourcePairs.open("segmentation", source, framing, palette="ade20k")
    expected = fit(colour_labels(numbers, "ade20k"), (64, 64), "classes")
    for found in (pairs.pair(0, VIEW, None).condition, pairs.condition_map(0, VIEW, None)):
        assert found is not None and (pixels(found) == pixels(expected)).all()
    assert not list(warnings_of(pairs))
    (warning,) = warnings_of(SourcePairs.open("segmentation", source, framing))
    assert "has one channel with values up to 150" in warning and "ade20k, coco-stuff, diorama" in warning
    with pytest.raises(MaquetteError, match=r"0\.png'.*Class numbers of diorama are 0 to 9"):
        SourcePairs.open("segmentation", source, framing, palette="diorama").pair(0, VIEW, None)


@pytest.mark.parametrize("name", ["city.jpg", "bakery.jpg"])
def test_a_photograph_has_the_same_lines_in_training_as_in_use(name: str) -> None:
    if not (PHOTOS / name).exists():
        pytest.skip("the photographs are not here")
    photo = open_image(PHOTOS / name)
    in_use = pixels(Detector("canny").in_frame(photo, (512, 512)))
    resized = pixels(Detector("canny").in_frame(photo, (512, 512), "detect, then resize"))
    assert set(np.unique(resized)) == {0, 255}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0.5 < (resized > 200).mean() / (in_use > 200).mean() < 2
