"""Preprocessing for YOLOX and DWPose and decoding of their outputs; the networks are tiny, or arrays."""

import sys

import numpy as np
import pytest
from PIL import Image
from tests.unit.conditions.tiny_onnx import write_tiny_dwpose

from maquette.conditions.drawing.people import from_coco
from maquette.conditions.networks.dwpose import DWPose, boxes_of, from_whole_body, peaks_of
from maquette.errors import MaquetteError

CELLS = 8 * 8 + 4 * 4 + 2 * 2  # of 64×64 in steps of 8, 16 and 32


def raw_boxes(**boxes: tuple[float, float, float, float, float]) -> np.ndarray:
    """YOLOX's answer (84, 85): at cell number N a box `person_N` or `dog_N` (middle, width, height, score)."""
    raw = np.zeros((CELLS, 85), np.float32)
    for name, (x, y, width, height, score) in boxes.items():
        kind, number = name.split("_")
        cell = int(number)
        stride, start = (8, 0) if cell < 64 else (16, 64) if cell < 80 else (32, 80)
        row, column = divmod(cell - start, 64 // stride)
        raw[cell, :4] = x / stride - column, y / stride - row, np.log(width / stride), np.log(height / stride)
        raw[cell, 4], raw[cell, 5 + (16 if kind == "dog" else 0)] = 0.9, score / 0.9
    return raw


def test_each_person_has_one_box() -> None:
    raw = raw_boxes(
        person_9=(20, 30, 16, 40, 0.8),
        person_70=(21, 31, 16, 40, 0.6),  # the same person, seen from a coarser grid
        person_83=(50, 40, 10, 20, 0.85),
        person_3=(10, 10, 5, 5, 0.3),  # not sure enough
        dog_40=(40, 50, 20, 10, 0.9),
    )
    assert np.allclose(boxes_of(raw, (64, 64), 0.5), [[45, 30, 55, 50], [12, 10, 28, 50]], atol=1e-4)
    assert boxes_of(raw, (64, 64), 0.99).shape == (0, 4)
    assert len(boxes_of(raw, (64, 64), 0.2)) == 3


def test_points_are_at_the_highest_scores() -> None:
    across, down = np.zeros((2, 3, 40), np.float32), np.zeros((3, 60), np.float32)
    across = across[0]
    across[0, 30], down[0, 15] = 0.9, 0.7
    across[1, 4], down[1, 59] = 0.4, 3.0
    positions, confidence = peaks_of(across, down)
    assert np.allclose(positions, [[0.75, 0.25], [0.1, 59 / 60], [0, 0]])
    assert np.allclose(confidence, [0.7, 0.4, 0])


def test_a_whole_body_is_taken_apart() -> None:
    """COCO-WholeBody: 17 of the body, 6 of the feet, 68 of the face, 21 of the left hand and of the right."""
    points = np.zeros((2, 133, 3))
    points[..., 0] = np.arange(133)
    points[..., 2] = 1
    people = from_whole_body(points, (200, 100))
    assert np.array_equal(people.body, from_coco(points[:, :17]))
    assert people.face[1, :68, 0].tolist() == list(range(23, 91))
    assert people.face[1, 68:, 0].tolist() == [2, 1]  # pupils: right eye, left eye
    assert people.hands[1, 0, :, 0].tolist() == list(range(91, 112))
    assert people.hands[1, 1, :, 0].tolist() == list(range(112, 133))
    assert len(from_whole_body(points[:0], (200, 100))) == 0


def test_from_image_to_points(tmp_path) -> None:
    """Images with a bright dot in each of two boxes: all points of each person lie on their dot."""
    pytest.importorskip("onnxruntime")
    boxes = raw_boxes(person_10=(12, 16, 16, 24, 0.9), person_20=(44, 20, 20, 30, 0.8))
    finder = DWPose(write_tiny_dwpose(tmp_path, boxes[None], (24, 32)), "cpu")
    pixels = np.zeros((320, 640, 3), np.uint8)  # YOLOX sees it a tenth as large, in the upper half of its canvas
    pixels[158:163, 98:103] = pixels[208:213, 498:503] = (255, 255, 255)
    wide, upright = finder([Image.fromarray(pixels), Image.new("RGB", (4, 200))], 0.5)
    assert (wide.size, len(wide)) == ((640, 320), 2)
    for body, dot in zip(wide.body, [(100, 160), (500, 210)], strict=True):
        assert np.abs(body[:, :2] - dot).max() < 8  # a pixel of a crop is up to 16
        assert (body[:, 2] == 1).all()
    assert np.abs(wide.hands[1, :, :, :2] - (500, 210)).max() < 8
    assert np.abs(wide.face[0, :, :2] - (100, 160)).max() < 8
    assert upright.size == (4, 200)
    assert not upright.body[..., 2].any()  # black is less than the mean
    assert [len(people) for people in finder([Image.fromarray(pixels)], 1.0)] == [0]


def test_files_that_cannot_be_run_are_refused(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(MaquetteError, match=r"holds no yolox_l\.onnx"):
        DWPose(tmp_path, "cpu")
    (tmp_path / "yolox_l.onnx").write_text("<html>Not found</html>")
    with pytest.raises(MaquetteError, match="cannot be run"):
        DWPose(tmp_path, "cpu")


def test_without_onnxruntime_the_extra_is_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "yolox_l.onnx").touch()
    with pytest.raises(MaquetteError, match=r"pip install 'maquette\[detectors\]'"):
        DWPose(tmp_path, "cpu")
