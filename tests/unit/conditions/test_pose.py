"""How skeletons, hands and faces are drawn."""

import colorsys

import cv2
import numpy as np
import pytest
from PIL import Image

from maquette.conditions.drawing.people import FACE, People
from maquette.conditions.drawing.skeletons import COLOURS, LIMBS, people_map, pose_map

# as annotator/openpose/util.py of the paper's code lists them, counted from 1; of its 19 limbs it draws the first 17
PUBLISHED_LIMBS = [
    [2, 3], [2, 6], [3, 4], [4, 5], [6, 7], [7, 8], [2, 9], [9, 10], [10, 11], [2, 12], [12, 13], [13, 14], [2, 1],
    [1, 15], [15, 17], [1, 16], [16, 18],
]  # fmt: skip
PUBLISHED_COLOURS = [
    "ff0000", "ff5500", "ffaa00", "ffff00", "aaff00", "55ff00", "00ff00", "00ff55", "00ffaa", "00ffff", "00aaff",
    "0055ff", "0000ff", "5500ff", "aa00ff", "ff00ff", "ff00aa", "ff0055",
]  # fmt: skip
SIZE = (512, 512)

# a person, arms and legs apart, none of whose limbs lies over another's middle
SPREAD = [
    (256, 120), (256, 200), (190, 200), (120, 160), (60, 100), (322, 200), (392, 160), (452, 100), (226, 320),
    (200, 400), (180, 480), (286, 320), (312, 400), (332, 480), (226, 90), (286, 90), (180, 70), (332, 70),
]  # fmt: skip


def person(*seen: int) -> np.ndarray:
    body = np.zeros((1, 18, 3))
    for point in seen or range(18):
        body[0, point] = (*SPREAD[point], 1)
    return body


def test_limbs_and_colours_are_the_published_ones() -> None:
    assert [[a + 1, b + 1] for a, b in LIMBS] == PUBLISHED_LIMBS
    assert [bytes(colour).hex() for colour in COLOURS] == PUBLISHED_COLOURS


def test_each_limb_has_its_colour_at_60_percent_in_its_middle() -> None:
    drawn = np.asarray(pose_map(person(), SIZE))
    for limb, (a, b) in enumerate(PUBLISHED_LIMBS):
        x, y = (np.array(SPREAD[a - 1]) + SPREAD[b - 1]) // 2
        expected = [round(0.6 * level) for level in bytes.fromhex(PUBLISHED_COLOURS[limb])]
        assert drawn[y, x].tolist() == expected, f"limb {limb}"


@pytest.mark.parametrize("point", range(18))
def test_each_point_has_its_colour_and_a_radius_of_4_at_512(point: int) -> None:
    drawn = np.asarray(pose_map(person(point), SIZE))
    x, y = SPREAD[point]
    assert (drawn[y, [x - 4, x, x + 4]] == list(bytes.fromhex(PUBLISHED_COLOURS[point]))).all()
    assert not drawn[y, [x - 5, x + 5]].any()


def test_limbs_change_nothing_beside_them() -> None:
    """The same as blending whole images, as the published code does; people may stand over the border."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        width, height = (int(side) for side in rng.integers(5, 300, 2))
        people = np.concatenate(
            [rng.normal((width / 2, height / 2), (width, height), (3, 18, 2)), rng.random((3, 18, 1)) > 0.2], axis=2
        )
        assert np.array_equal(np.asarray(pose_map(people, (width, height))), _blended(people, width, height))


def _blended(people: np.ndarray, width: int, height: int) -> np.ndarray:
    radius = max(1.5, 4 * min(width, height) / 512)
    canvas = np.array(pose_map(people, (width, height))) * 0
    for body in people:
        for (x, y, confidence), colour in zip(body, COLOURS, strict=True):
            if confidence:
                cv2.circle(canvas, (round(x), round(y)), round(radius), colour, -1)
    for (a, b), colour in zip(LIMBS, COLOURS, strict=False):
        for body in people:
            if body[a, 2] and body[b, 2]:
                (x0, y0), (x1, y1) = body[a, :2], body[b, :2]
                middle, half = (round((x0 + x1) / 2), round((y0 + y1) / 2)), round(np.hypot(x1 - x0, y1 - y0) / 2)
                angle = round(np.degrees(np.arctan2(y1 - y0, x1 - x0)))
                layer = canvas.copy()
                outline = cv2.ellipse2Poly(middle, (max(1, half), round(radius)), angle, 0, 360, 1)
                cv2.fillConvexPoly(layer, outline, colour)
                canvas = cv2.addWeighted(canvas, 0.4, layer, 0.6, 0)
    return canvas


def test_without_hands_and_faces_people_are_their_bodies() -> None:
    assert people_map(People.of_bodies(person(), SIZE)) == pose_map(person(), SIZE)
    assert people_map(People.of_bodies(np.zeros((0, 18, 3)), (7, 5))) == Image.new("RGB", (7, 5))


def test_fingers_have_the_colours_of_the_rainbow_and_points_are_blue() -> None:
    hands = np.zeros((1, 2, 21, 3))
    hands[0, 1, 0] = (256, 480, 1)
    for finger in range(5):
        for joint in range(4):
            hands[0, 1, 1 + 4 * finger + joint] = (56 + 100 * finger, 380 - 100 * joint, 1)
    drawn = np.asarray(people_map(People(SIZE, np.zeros((1, 18, 3)), hands, np.zeros((1, FACE, 3)))))
    for line in range(20):
        finger, joint = divmod(line, 4)
        start, end = hands[0, 1, 0 if joint == 0 else line, :2], hands[0, 1, line + 1, :2]
        x, y = ((start + end) / 2).astype(int)
        assert drawn[y, x].tolist() == [round(255 * level) for level in colorsys.hsv_to_rgb(line / 20, 1, 1)], line
    for x, y, _ in hands[0, 1].astype(int):
        assert drawn[y, x].tolist() == [0, 0, 255]


def test_faces_are_white_dots() -> None:
    face = np.zeros((1, FACE, 3))
    face[0, :, 0], face[0, :, 1] = 20 + 7 * np.arange(FACE), 100
    face[0, 1:, 2] = 1
    drawn = np.asarray(people_map(People(SIZE, np.zeros((1, 18, 3)), np.zeros((1, 2, 21, 3)), face)))
    assert (drawn[100, 27 : 27 + 7 * 69 : 7] == 255).all()
    assert not drawn[100, 20].any()
    assert np.array_equal(np.unique(drawn), [0, 255])
