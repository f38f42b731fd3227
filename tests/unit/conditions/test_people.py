"""People as key points, and their files."""

import json
from pathlib import Path

import numpy as np
import pytest

from maquette.conditions.drawing.people import (
    FACE,
    People,
    completeness,
    from_coco,
    read_people,
    whole_body_completeness,
    write_people,
)
from maquette.errors import MaquetteError

COCO = [
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
]  # fmt: skip
OPENPOSE = [
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
]  # fmt: skip


@pytest.fixture
def people() -> People:
    rng = np.random.default_rng(1)
    size = (640, 425)
    parts = [rng.uniform((0, 0, 0), (*size, 1), (2, count, 3)) for count in (18, 21, 21, FACE)]
    parts[1][0] = 0  # a left hand that was not found
    return People(size, parts[0], np.stack(parts[1:3], axis=1), parts[3])


def test_coco_becomes_openpose_point_by_point() -> None:
    points = np.random.default_rng(0).random((3, 17, 3))
    body = from_coco(points)
    for number, name in enumerate(OPENPOSE):
        if name != "neck":
            assert np.array_equal(body[:, number], points[:, COCO.index(name)]), name
    left, right = points[:, COCO.index("left_shoulder")], points[:, COCO.index("right_shoulder")]
    assert np.allclose(body[:, 1, :2], (left + right)[:, :2] / 2)
    assert np.array_equal(body[:, 1, 2], np.minimum(left[:, 2], right[:, 2]))
    assert from_coco(np.zeros((0, 17, 3))).shape == (0, 18, 3)


def test_a_point_is_found_or_not(people) -> None:
    result = people.thresholded(0.5)
    for before, after in zip(
        (people.body, people.hands, people.face), (result.body, result.hands, result.face), strict=True
    ):
        found = before[..., 2] >= 0.5
        assert np.array_equal(after[found][:, :2], before[found][:, :2])
        assert (after[found][:, 2] == 1).all()
        assert not after[~found].any()
    assert not People.of_bodies(np.zeros((1, 18, 3)), (9, 9)).thresholded(0).body.any()


def test_shares_of_a_whole_body() -> None:
    body = np.zeros((2, 18, 3))
    body[0, :5, 2], body[1, 4:10, 2] = 1, 0.2
    people = People.of_bodies(body, (10, 10))
    assert completeness(people).tolist() == [5 / 18, 6 / 18]
    assert whole_body_completeness(people) == 6 / 18
    assert whole_body_completeness(people.only(np.array([True, False]))) == 5 / 18
    assert whole_body_completeness(People.of_bodies(body[:0], (10, 10))) == 0


def test_files_give_back_what_was_written(people, tmp_path) -> None:
    for written in (people, people.only(np.array([False, False]))):
        write_people(written, tmp_path / "people.json")
        read = read_people(tmp_path / "people.json")
        assert read.size == written.size
        for part in ("body", "hands", "face"):
            assert np.array_equal(getattr(read, part), getattr(written, part))
    write_people(people, tmp_path / "people.json")
    first, second = json.loads((tmp_path / "people.json").read_text())["people"]
    assert first["hand_left_keypoints_2d"] is None
    assert second["hand_left_keypoints_2d"][:3] == people.hands[1, 0, 0].tolist()
    assert first["hand_right_keypoints_2d"][:3] == people.hands[0, 1, 0].tolist()
    assert len(first["pose_keypoints_2d"]) == 54


def write_content(folder: Path, content: object) -> Path:
    (folder / "given.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "given.json"


def test_what_editors_write_is_read(tmp_path) -> None:
    body = [0.5, 0.25, 1] * 17 + [0, 0, 0]
    content = {
        "people": [{"pose_keypoints_2d": body, "face_keypoints_2d": [8, 9, 1] * 68}],
        "canvas_width": 80,
        "canvas_height": 40,
    }
    for file_content in (content, [content]):
        people = read_people(write_content(tmp_path, file_content))
        assert people.body[0, 0].tolist() == [40, 10, 1]
        assert people.body[0, 17].tolist() == [0, 0, 0]
        assert people.face[0, 67].tolist() == [8, 9, 1]
        assert not people.face[0, 68:].any()
        assert not people.hands.any()
    hand_only = {**content, "people": [{"pose_keypoints_2d": [], "hand_right_keypoints_2d": [[3, 4, 1]] * 21}]}
    assert read_people(write_content(tmp_path, hand_only)).hands[0, 1, 20].tolist() == [3, 4, 1]


BODY_25 = [
    *OPENPOSE[:8], "mid_hip", *OPENPOSE[8:14], "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
    "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
]  # fmt: skip
"""As OpenPose's doc/02_output.md lists them."""


@pytest.mark.parametrize("scale", [1, 1 / 100])
def test_bodies_of_25_points_lose_hips_middle_and_feet(tmp_path, scale: float) -> None:
    points = [[number * scale, 2 * number * scale, 0.5] for number in range(25)]
    numbers = [number for point in points for number in point]
    content = {"people": [{"pose_keypoints_2d": numbers}], "canvas_width": 100, "canvas_height": 100}
    (body,) = read_people(write_content(tmp_path, content)).body
    for point, name in zip(body, OPENPOSE, strict=True):
        number = BODY_25.index(name)
        assert np.allclose(point, (number, 2 * number, 0.5)), name


BODY = {"pose_keypoints_2d": [5, 5, 1] * 18}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<html>", "it is not JSON"),
        ("[1, 2]", "not describe one image"),
        ({"people": [BODY]}, "canvas_width"),
        ({"people": [BODY], "canvas_width": 10, "canvas_height": 0}, "not 10 and 0"),
        ({"people": [BODY], "canvas_width": 10**6, "canvas_height": 10**6}, "1000000 and 1000000"),
        ({"people": None, "canvas_width": 10, "canvas_height": 10}, 'no list "people"'),
        ({"people": [3], "canvas_width": 10, "canvas_height": 10}, 'no list "people"'),
        ({"people": [{"pose_keypoints_2d": [5] * 72}], "canvas_width": 10, "canvas_height": 10}, "54 or 75 .*not 72"),
        (
            {"people": [{"pose_keypoints_2d": [10**400] * 54}], "canvas_width": 9, "canvas_height": 9},
            "other than numbers",
        ),
        ({"people": [BODY], "canvas_width": True, "canvas_height": 10}, "not True and 10"),
        (
            {"people": [{"pose_keypoints_2d": ["x"] * 54}], "canvas_width": 10, "canvas_height": 10},
            "other than numbers",
        ),
        ({"people": [{"pose_keypoints_2d": [1e12] * 54}], "canvas_width": 10, "canvas_height": 10}, "beyond"),
        ({"people": [{"pose_keypoints_2d": [float("nan")] * 54}], "canvas_width": 10, "canvas_height": 10}, "beyond"),
        ({"people": [{"face_keypoints_2d": [5] * 30}], "canvas_width": 10, "canvas_height": 10}, "204 or 210"),
    ],
)
def test_bad_files_are_refused(tmp_path, content: object, message: str) -> None:
    with pytest.raises(MaquetteError, match=message):
        read_people(write_content(tmp_path, content))


def test_a_missing_file_is_refused(tmp_path) -> None:
    with pytest.raises(MaquetteError, match="cannot be read"):
        read_people(tmp_path / "absent.json")
