"""The detector `pose` as users have it."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.unit.conditions.test_dwpose import raw_boxes
from tests.unit.conditions.tiny_onnx import write_tiny_dwpose
from tests.unit.conditions.tiny_pose import write_tiny

import maquette as mq
from maquette.cli.detect import run
from maquette.conditions.drawing.people import completeness, whole_body_completeness
from maquette.conditions.drawing.skeletons import people_map
from maquette.conditions.registry import one_detector
from maquette.errors import MaquetteError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny("pose", tmp_path_factory.mktemp("pose"))


@pytest.fixture(scope="module")
def detector(folder) -> mq.Detector:
    return mq.Detector("pose", folder, "cpu")


@pytest.fixture(scope="module")
def image() -> Image.Image:
    return mq.diorama.scene(3).image


def test_a_map_is_drawn_from_what_is_found(detector, image) -> None:
    people = detector.find([image])[0]
    assert len(people)
    assert set(np.unique(people.body[..., 2])) == {0, 1}
    assert not people.hands.any()
    assert detector(image) == people_map(people)


def test_options_leave_points_and_people_out(detector, image) -> None:
    all_points = detector.find([image], confidence=0.0)[0]
    sure = detector.find([image], confidence=0.9)[0]
    assert 0 < (sure.body[..., 2] > 0).sum() < (all_points.body[..., 2] > 0).sum()
    least = float(np.median(completeness(sure)))
    kept = detector.find([image], confidence=0.9, least=least)[0]
    assert 0 < len(kept) < len(sure)
    assert completeness(kept).min() >= least
    assert whole_body_completeness(kept) == whole_body_completeness(sure)
    assert not np.asarray(detector(image, person=1.0)).any()


def test_key_points_are_kept_and_drawn_again(folder, image, tmp_path) -> None:
    image.save(tmp_path / "photo.png")
    detect = {"option": [], "device": "cpu", "listed": False}
    run("pose", [tmp_path / "photo.png"], tmp_path, weights=str(folder), keep=True, **detect)
    record = tmp_path / "photo-pose-record.json"
    assert json.loads(record.read_text())["canvas_width"] == 128
    run("pose", [record], tmp_path, weights=None, keep=False, **detect)  # needs no weights
    drawn, again = (np.asarray(Image.open(tmp_path / f"{name}-pose.png")) for name in ("photo", record.stem))
    assert drawn.any()
    assert np.array_equal(drawn, again)


def test_hands_and_faces_come_from_dwpose(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    write_tiny_dwpose(tmp_path, raw_boxes(person_10=(12, 16, 16, 24, 0.9))[None], (24, 32))
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[158:163, 98:103] = 255
    image = Image.fromarray(pixels)
    detector = mq.Detector("pose", tmp_path, "cpu")  # files of ONNX only
    for hands, face in [(False, False), (True, False), (False, True)]:
        people = detector.find([image], hands=hands, face=face)[0]
        assert (people.body.any(), people.hands.any(), people.face.any()) == (True, hands, face)
    assert np.asarray(detector(image, face=True))[160, 100].tolist() == [255, 255, 255]
    assert np.asarray(detector(image, hands=True))[160, 100].tolist() == [0, 0, 255]


def test_weights_without_hands_say_what_is_missing(folder, image) -> None:
    with pytest.raises(MaquetteError, match=r"Hands and faces need yolox_l\.onnx"):
        mq.detect("pose", image, weights=folder, hands=True)


def test_folders_of_something_else_are_refused(tmp_path) -> None:
    with pytest.raises(MaquetteError, match=r"give a folder with boxes/ and points/, or with yolox_l\.onnx and"):
        mq.Detector("pose", tmp_path)


def test_the_catalogue_knows_all_repositories() -> None:
    text = one_detector("pose")
    for repository in ("PekingU/rtdetr_r50vd_coco_o365", "usyd-community/vitpose-base-simple", "yzd-v/DWPose"):
        assert f"hf download {repository}" in text
    assert "516" in text  # MB of boxes and points together
