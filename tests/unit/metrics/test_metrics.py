"""Perfect input scores at the ceiling, a wrong image at the floor, a slightly wrong one in between."""

import itertools

import numpy as np
import pytest
from PIL import Image

from maquette import diorama
from maquette.errors import MaquetteError
from maquette.metrics import condition_maps
from maquette.metrics.fidelity import NAMES, fidelity
from maquette.metrics.frechet import frechet_distance
from maquette.metrics.maps import depth_accuracy, edge_f1, mean_iou, normal_accuracy, pck


@pytest.fixture(scope="module")
def scenes() -> list[diorama.Scene]:
    return [diorama.scene(seed) for seed in range(300, 312)]


def line(column: int) -> np.ndarray:
    edges = np.zeros((40, 40), bool)
    edges[:, column] = True
    return edges


def test_edges_match_within_two_pixels() -> None:
    assert edge_f1(line(10), line(10)) == 1
    assert edge_f1(line(12), line(10)) == 1
    assert edge_f1(line(13), line(10)) == 0
    assert edge_f1(line(10) | line(30), line(10)) == pytest.approx(2 / 3)
    assert edge_f1(line(10), line(10) | line(30)) == pytest.approx(2 / 3)
    empty = np.zeros((40, 40), bool)
    assert edge_f1(empty, empty) == 1
    assert edge_f1(empty, line(10)) == edge_f1(line(10), empty) == 0


def test_iou() -> None:
    truth = np.array([[0, 0, 1, 1]])
    assert mean_iou(truth, truth) == 1
    assert mean_iou(1 - truth, truth) == 0
    assert mean_iou(np.array([[0, 1, 1, 1]]), truth) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_depth() -> None:
    truth = np.array([[1.0, 2.0, 4.0, 1000.0]])
    assert depth_accuracy(truth, truth) == 1
    assert depth_accuracy(truth * [1.2, 1.3, 1, 1], truth) == pytest.approx(2 / 3)
    assert depth_accuracy(truth * 2, truth) == 0


def test_normals() -> None:
    truth = np.array([[[0, 1, 0], [0, 0, 1], [0, 0, 0]]], float)
    assert normal_accuracy(truth, truth) == 1
    assert normal_accuracy(-truth, truth) == 0
    tilted = np.array([[[0, np.cos(0.3), np.sin(0.3)], [0, np.sin(0.5), np.cos(0.5)], [1, 0, 0]]])
    assert normal_accuracy(tilted, truth) == 0.5  # 17 and 29 degrees


def test_key_points() -> None:
    heat = np.zeros((18, 40, 40))
    heat[3, 20, 10], heat[4, 5, 5] = 1, 0.2
    person = np.zeros((1, 18, 3))
    person[0, 3], person[0, 4] = (12, 22, 1), (5, 5, 1)
    assert pck(heat, person) == 0.5  # one 2.8 pixels off, one too faint
    person[0, 3, :2] = (15, 20)
    assert pck(heat, person) == 0
    assert np.isnan(pck(heat, person[:0]))


def test_frechet_distance_of_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(0, 1, (20000, 3))
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    b = rng.normal([1, 0, 0], [2, 1, 1], (20000, 3))  # |Δμ|² + (2 − 1)² = 2
    assert frechet_distance(a, b) == pytest.approx(2, abs=0.1)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a))


def ground_truth(condition: str, scene: diorama.Scene):
    from maquette.conditions.detectors.canny import DIORAMA, canny
    from maquette.conditions.detectors.scribble import scribble

    return {
        "canny": lambda: canny(scene.image, **DIORAMA),
        "scribble": lambda: scribble(scene.image),
        "depth": lambda: scene.depth,
        "normal": lambda: scene.normals,
        "segmentation": lambda: scene.classes,
        "pose": lambda: scene.keypoints,
    }[condition]()


@pytest.mark.parametrize("condition", ["canny", "scribble"])
def test_fidelity_of_detected_conditions(condition: str, scenes) -> None:
    truth = [ground_truth(condition, scene) for scene in scenes]
    images = [scene.image for scene in scenes]
    assert np.mean(fidelity(condition, images, truth)) == 1
    assert np.mean(fidelity(condition, [*images[1:], images[0]], truth)) < 0.5
    assert set(NAMES) >= {condition}


@pytest.mark.parametrize(
    ("condition", "ceiling", "floor"),
    [("segmentation", 0.9, 0.5), ("depth", 0.9, 0.75), ("normal", 0.8, 0.68), ("pose", 0.85, 0.05)],
)
def test_fidelity_by_the_perception_model(condition: str, ceiling: float, floor: float) -> None:
    """True scenes near the ceiling of docs/fidelity.md, scenes in another order near the floor."""
    scenes = [diorama.scene(seed) for seed in range(300, 324)]
    if condition == "pose":
        scenes = [scene for scene in scenes if len(scene.keypoints)]
    truth = [ground_truth(condition, scene) for scene in scenes]
    images = [scene.image for scene in scenes]
    assert np.nanmean(fidelity(condition, images, truth)) > ceiling
    assert np.nanmean(fidelity(condition, [*images[1:], images[0]], truth)) < floor


def grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert("RGB")


def test_disparities_have_no_scale_and_no_offset() -> None:
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1))
    assert condition_maps.disparities(grey(ramp), grey(ramp)) == 1
    assert condition_maps.disparities(grey(0.4 * ramp + 30), grey(ramp)) == 1
    flat = condition_maps.disparities(grey(np.full((64, 64), 90.0)), grey(ramp))
    assert flat == pytest.approx(0.2, abs=0.03)  # the middle of the ramp, a tenth to each side
    assert condition_maps.disparities(grey(255 - ramp), grey(ramp)) == pytest.approx(flat, abs=0.03)  # far is not near


def test_class_maps_are_compared_by_colour() -> None:
    left = np.zeros((8, 8, 3), np.uint8)
    left[:, :4] = (1, 2, 3)
    shifted = np.roll(left, 2, axis=1)
    assert condition_maps.classes(Image.fromarray(left), Image.fromarray(left)) == 1
    assert condition_maps.classes(Image.fromarray(shifted), Image.fromarray(left)) == pytest.approx(1 / 3)


def test_normal_maps_are_compared_by_angle(scenes) -> None:
    from maquette.conditions.drawing.surfaces import normal_map

    maps = [normal_map(scene.normals) for scene in scenes[:4]]
    assert condition_maps.normals(maps[0], maps[0]) == 1
    tilted = normal_map(np.full((8, 8, 3), (0.0, 0.5, 0.866)))
    assert condition_maps.normals(tilted, normal_map(np.full((8, 8, 3), (0.0, 0.0, 1.0)))) == 0  # 30 degrees


def test_poses_are_compared_limb_by_limb(scenes) -> None:
    from maquette.conditions.drawing.skeletons import pose_map

    maps = [pose_map(scene.keypoints, (128, 128)) for scene in scenes if len(scene.keypoints)]
    assert len(maps) >= 3
    assert all(condition_maps.limbs(one, one) == 1 for one in maps)
    shifted = Image.fromarray(np.roll(np.asarray(maps[0]), 2, axis=1))
    assert condition_maps.limbs(shifted, maps[0]) > 0.8
    assert np.mean([condition_maps.limbs(a, b) for a, b in itertools.pairwise(maps)]) < 0.3
    mirrored = Image.fromarray(np.asarray(maps[0])[..., ::-1].copy())  # the same strokes, of other limbs
    assert condition_maps.limbs(mirrored, maps[0]) < 0.6
    assert np.isnan(condition_maps.limbs(maps[0], Image.new("RGB", (128, 128))))


@pytest.mark.parametrize("name", ["canny", "scribble", "depth", "normal", "segmentation", "pose"])
def test_every_kind_of_map_has_a_metric(name, scenes) -> None:
    """1 for a map itself, less for another's."""
    from maquette.data.diorama import CONDITIONS
    from maquette.metrics.registry import metric_of

    fields = {"canny": "image", "scribble": "image", "depth": "depth", "normal": "normals", "segmentation": "classes"}
    scenes = [scene for scene in scenes if len(scene.keypoints)][:3]
    maps = []
    for scene in scenes:
        value = getattr(scene, fields.get(name, "keypoints"))
        value = np.asarray(value) * 127 if name == "normal" else np.asarray(value)
        more = {"canny": [None], "scribble": [scene.classes, None]}.get(name, [])
        maps.append(CONDITIONS[name].draw(value, *more))
    score = metric_of(name).score
    assert all(score(one, one) == 1 for one in maps)
    assert np.mean([score(a, b) for a, b in itertools.pairwise(maps)]) < 0.8


def test_a_taken_name_is_refused_and_class_maps_need_no_metric() -> None:
    import maquette as mq
    from maquette.metrics.registry import CLASSES, metric_of

    with pytest.raises(MaquetteError, match="'canny' has a metric already"):
        mq.register_metric("canny")
    assert metric_of("nothing") is None
    mq.register_detector("tiles", lambda image: image, categorical=True)
    assert metric_of("tiles") is CLASSES
