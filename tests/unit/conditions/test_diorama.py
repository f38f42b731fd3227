"""The network of the embedded world as a detector, and the exact maps of scenes."""

import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.detectors.diorama import PERSON, key_points
from maquette.conditions.drawing.class_maps import read_classes, write_classes
from maquette.data.diorama import CONDITIONS
from maquette.metrics.maps import mean_iou

NAMES = ("depth", "normal", "segmentation", "pose")


def stored(scene: mq.diorama.Scene) -> dict[str, np.ndarray]:
    """A scene as trainings read it (`maquette.diorama.dataset`)."""
    keypoints = np.zeros((4, 18, 3), np.float32)
    keypoints[: len(scene.keypoints)] = scene.keypoints
    return {
        "depth": scene.depth.astype(np.float16),
        "normals": np.round(scene.normals * 127).astype(np.int8),
        "classes": scene.classes,
        "keypoints": keypoints,
    }


@pytest.mark.parametrize("name", NAMES)
def test_exact_maps_are_those_of_the_training(name: str) -> None:
    made = CONDITIONS[name]
    detector = mq.Detector(f"diorama/{name}", device="cpu")
    for scene in map(mq.diorama.scene, (3, 9, 12, 33)):
        expected = made.draw(*(stored(scene)[field] for field in made.fields))
        assert np.array_equal(np.asarray(detector(scene)), np.asarray(expected))


def test_scenes_are_seen_as_they_are() -> None:
    scenes = [mq.diorama.scene(seed) for seed in (3, 9, 12)]
    images = [scene.image for scene in scenes]
    detectors = {name: mq.Detector(f"diorama/{name}", device="cpu") for name in NAMES}
    for scene, classes in zip(scenes, detectors["segmentation"].find(images), strict=True):
        assert mean_iou(classes.numbers, scene.classes) > 0.8
    for name in ("depth", "normal"):
        for scene, seen in zip(scenes, detectors[name](images), strict=True):
            exact = np.asarray(detectors[name](scene), int)
            assert np.abs(np.asarray(seen, int) - exact).mean() < 14, name  # levels


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(1, 1), (97, 61), (3, 200), (2000, 10)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    assert mq.detect(f"diorama/{name}", mq.diorama.scene(9).image.resize(size), device="cpu").size == size


def test_key_points_are_found_where_they_are() -> None:
    scene = mq.diorama.scene(9)  # two people, apart
    (people,) = mq.Detector("diorama/pose", device="cpu").find([scene.image])
    assert len(people) == len(scene.keypoints) == 2
    hits = []
    for true in scene.keypoints:
        near = [np.hypot(*(body[:, :2] - true[:, :2]).T) + 1e9 * (body[:, 2] == 0) for body in people.body]
        hits.append(np.mean(min(near, key=np.median)[true[:, 2] > 0] <= 4))
    assert min(hits) > 0.7
    twice = mq.Detector("diorama/pose", device="cpu").find([scene.image.resize((256, 256), Image.Resampling.LANCZOS)])
    assert np.abs(twice[0].body - people.body * (2, 2, 1))[people.body[..., 2] > 0].mean() < 4


def test_a_connected_area_is_one_person() -> None:
    heat, classes = np.zeros((18, 40, 60)), np.zeros((40, 60), np.uint8)
    classes[5:35, 5:15] = classes[5:35, 40:50] = PERSON
    heat[0, 10, 10], heat[0, 12, 11], heat[0, 10, 44] = 0.9, 0.5, 0.8
    heat[4, 20, 17] = 0.7  # two pixels beside the first
    heat[5, 20, 30] = 1.0  # beside nobody
    heat[6, 20, 44] = 0.2  # faint
    left, right = sorted(key_points(heat, classes), key=lambda person: person[0, 0])
    assert left[0].tolist() == [10.5, 10.5, 1]
    assert right[0].tolist() == [44.5, 10.5, 1]
    assert left[4].tolist() == [17.5, 20.5, 1]
    assert not left[5, 2] and not right[5, 2] and not right[6, 2]
    assert key_points(heat * 0, classes).shape == (0, 18, 3)


def test_class_numbers_are_kept_and_drawn_again(tmp_path) -> None:
    detector = mq.Detector("diorama/segmentation", device="cpu")
    image = mq.diorama.scene(9).image
    (classes,) = detector.find([image])
    write_classes(classes, tmp_path / "one.classes.png")
    assert detector.spec.record.draw(read_classes(tmp_path / "one.classes.png")) == detector(image)
