"""Skeletons as Openpifpaf draws them, against Matplotlib, which it draws with."""

import io

import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.cli.detect import run
from maquette.conditions.drawing.people import People, from_coco, to_coco
from maquette.conditions.drawing.pifpaf import COLOURS, SKELETON, pifpaf_map

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

# openpifpaf/plugins/coco/constants.py: COCO_PERSON_SKELETON and COCO_UPRIGHT_POSE (x, y up)
PUBLISHED = [
    (16, 14), (14, 12), (17, 15), (15, 13), (12, 13), (6, 12), (7, 13), (6, 7), (6, 8), (7, 9), (8, 10), (9, 11),
    (2, 3), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 7),
]  # fmt: skip
UPRIGHT = [
    (0.0, 9.3), (-0.35, 9.7), (0.35, 9.7), (-0.7, 9.5), (0.7, 9.5), (-1.4, 8.0), (1.4, 8.0), (-1.75, 6.0),
    (1.75, 6.2), (-1.75, 4.0), (1.75, 4.2), (-1.26, 4.0), (1.26, 4.0), (-1.4, 2.0), (1.4, 2.1), (-1.4, 0.0),
    (1.4, 0.1),
]  # fmt: skip


def upright(size: tuple[int, int], found: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """COCO's key points (1, 17, 3) of a standing person."""
    width, height = size
    x, y = np.array(UPRIGHT).T
    rng = np.random.default_rng(3)
    points = [width * (0.5 + shift + x / 8), height * (0.95 - y / 11), rng.random(17) < found]
    return np.stack(points, axis=1)[None].astype(float)


def painted(people: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """What Openpifpaf paints on a black image: `Canvas.image` and `KeypointPainter._draw_skeleton`, by default."""
    width, height = size
    figure = Figure(figsize=(7, 7 * height / width), dpi=width / 7, facecolor="black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(-0.5, width - 0.5)
    axes.set_ylim(height - 0.5, -0.5)
    for points in people:
        x, y, v = points.T
        kept = [(n, a - 1, b - 1) for n, (a, b) in enumerate(PUBLISHED) if v[a - 1] > 0 and v[b - 1] > 0]
        lines = [[(x[a], y[a]), (x[b], y[b])] for _, a, b in kept]
        colours = [matplotlib.colormaps["tab20"]((n % 20 + 0.05) / 20) for n, _, _ in kept]
        axes.add_collection(LineCollection(lines, colors=colours, linewidths=6, capstyle="round"))
        axes.scatter(x[v > 0], y[v > 0], s=3**2, marker=".", color="white", zorder=2)
    content = io.BytesIO()
    figure.savefig(content, facecolor="black")
    return np.asarray(Image.open(content).convert("RGB").resize(size), float)


def test_lines_and_colours_are_openpifpafs() -> None:
    assert [(a + 1, b + 1) for a, b in SKELETON] == PUBLISHED
    expected = [matplotlib.colormaps["tab20"]((n + 0.05) / 20)[:3] for n in range(19)]
    assert [tuple(colour) for colour in COLOURS] == [tuple(round(255 * v) for v in colour) for colour in expected]


def test_cocos_key_points_come_back() -> None:
    points = np.random.default_rng(0).random((5, 17, 3))
    assert np.array_equal(to_coco(from_coco(points)), points)
    assert to_coco(np.zeros((0, 18, 3))).shape == (0, 17, 3)


@pytest.mark.parametrize("size", [(512, 512), (768, 512), (512, 768), (1024, 1024)])
@pytest.mark.parametrize("found", [1.0, 0.6])
def test_a_map_is_what_openpifpaf_paints_on_black(size, found) -> None:
    people = np.concatenate([upright(size, found), upright(size, found, 0.15)])
    drawn = np.asarray(pifpaf_map(People.of_bodies(from_coco(people), size)), float)
    expected = painted(list(people), size)
    differs = np.abs(drawn - expected).max(axis=2) > 64
    assert expected.max(axis=2).astype(bool).mean() > 0.01
    assert differs.mean() < 0.1 * (expected.max(axis=2) > 64).mean()  # along the outlines
    for a, b in SKELETON:
        for person in people:
            if person[a, 2] and person[b, 2]:
                x, y = np.round(0.3 * person[a, :2] + 0.7 * person[b, :2]).astype(int)
                assert np.abs(drawn[y, x] - expected[y, x]).max() < 64


def test_without_people_a_map_is_black_and_points_alone_are_dots() -> None:
    assert pifpaf_map(People.of_bodies(np.zeros((0, 18, 3)), (7, 5))) == Image.new("RGB", (7, 5))
    body = np.zeros((1, 18, 3))
    body[0, 4] = (30, 20, 0.4)
    drawn = np.asarray(pifpaf_map(People.of_bodies(body, (64, 48))))
    assert drawn[20, 30].tolist() == [255, 255, 255]
    assert not drawn[:, 34:].any() and not drawn[:16].any()


def test_scenes_images_and_records_are_drawn_alike(tmp_path) -> None:
    scene = mq.diorama.scene(1)
    exact = mq.detect("diorama/pose_pifpaf", scene)
    assert exact.getbbox() is not None
    detector = mq.Detector("diorama/pose_pifpaf", device="cpu")
    (people,) = detector.find([scene.image])
    assert detector(scene.image) == pifpaf_map(people)
    scene.image.save(tmp_path / "scene.png")
    run("diorama/pose_pifpaf", [tmp_path / "scene.png"], tmp_path, [], None, "cpu", True, None, False)
    record = tmp_path / "scene-diorama-pose_pifpaf-record.json"
    run("pose_pifpaf", [record], tmp_path, [], None, "cpu", False, None, False)  # needs no weights
    assert Image.open(tmp_path / f"{record.stem}-pose_pifpaf.png").convert("RGB") == detector(scene.image)
