"""People as key points, and their files: OpenPose's JSON, as the editors of the web UIs read and write it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.errors import MaquetteError

BODY, HAND, FACE = 18, 21, 70

COCO = (0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""Where COCO keeps Openpose's key points but the neck: nose, right and left arm, right and left leg, eyes, ears."""

BODY_25 = (*range(8), *range(9, 19))
"""Where OpenPose's model of 25 key points, its usual one, keeps the 18: it has the middle of the hips between, and feet
after them."""

COUNTS = {BODY: (BODY, 25), HAND: (HAND,), FACE: (68, FACE)}  # of points that files have of a part

FARTHEST = 100_000  # pixels: no drawing goes beyond


@dataclass(frozen=True, eq=False)
class People:
    """Found people; points are x, y in pixels of the image and a confidence, 0 where a point was not found."""

    size: tuple[int, int]  # width, height of the image
    body: NDArray[np.float64]  # (P, 18, 3) in Openpose's order
    hands: NDArray[np.float64]  # (P, 2, 21, 3): left, right; the wrist, then each finger from its root
    face: NDArray[np.float64]  # (P, 70, 3): contour, brows, nose, eyes, lips, pupils

    @classmethod
    def of_bodies(cls, body: NDArray[np.floating], size: tuple[int, int]) -> Self:
        """People (P, 18, 3) of whom hands and face were not looked for."""
        count = len(body)
        return cls(size, np.asarray(body, np.float64), np.zeros((count, 2, HAND, 3)), np.zeros((count, FACE, 3)))

    def __len__(self) -> int:
        return len(self.body)

    def only(self, chosen: NDArray[np.bool_]) -> "People":
        """Those people that are chosen, (P,)."""
        return People(self.size, self.body[chosen], self.hands[chosen], self.face[chosen])

    def settled(self, confidence: float) -> "People":
        """Every point found or not: of confidence 1 where it had the one given or more, and nothing elsewhere.

        The editors of the web UIs take points of any other confidence for hidden ones.
        """
        return People(self.size, *(_settled(one, confidence) for one in (self.body, self.hands, self.face)))


def _settled(points: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    found = (points[..., 2:] >= confidence) & (points[..., 2:] > 0)
    return np.where(found, np.concatenate([points[..., :2], np.ones_like(points[..., 2:])], axis=-1), 0.0)


def from_coco(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """COCO's 17 key points (P, 17, 3) as Openpose's 18: the neck is midway between the shoulders, and as sure as the
    less sure one."""
    shoulders = np.asarray(points, np.float64)[:, 5:7]
    neck = np.concatenate([shoulders[..., :2].mean(axis=1), shoulders[..., 2:].min(axis=1)], axis=-1)
    return np.insert(np.asarray(points, np.float64)[:, list(COCO)], 1, neck, axis=1)


def completeness(people: People) -> NDArray[np.float64]:
    """How much of a whole body each person shows: found key points of 18, (P,) in [0, 1]."""
    return (people.body[..., 2] > 0).mean(axis=1)


def whole_body_completeness(people: People) -> float:
    """Of the person of whom most is found; 0 where there is nobody. The paper trains on images with 0.3 or more."""
    return float(completeness(people).max(initial=0))


PARTS = {"hand_left_keypoints_2d": HAND, "hand_right_keypoints_2d": HAND, "face_keypoints_2d": FACE}


def write_people(people: People, path: Path) -> None:
    """As OpenPose writes them, with the size of the canvas (`read_people` gives the same numbers back)."""
    width, height = people.size
    persons = [
        {
            "pose_keypoints_2d": body.ravel().tolist(),
            **{name: part.ravel().tolist() if part.any() else None for name, part in zip(PARTS, parts, strict=True)},
        }
        for body, *parts in zip(people.body, people.hands[:, 0], people.hands[:, 1], people.face, strict=True)
    ]
    content = {"people": persons, "canvas_width": width, "canvas_height": height}
    path.write_text(json.dumps(content) + "\n", "utf-8")


def read_people(path: Path) -> People:
    """People in a file of OpenPose's format (its doc/02_output.md) with the size of the canvas beside them.

    Points are 18 of a body, or 25 as OpenPose's usual model has them (of which the middle of the hips and the feet are
    dropped), 21 of a hand, and of a face 68, or 70 with the pupils; empty or null where a part was not found. Where no
    coordinate of a part is above 1 they are shares of the canvas, as some editors write them.
    Raises `MaquetteError` for a file that holds no such people.
    """
    content = _content(path)
    size = _canvas(content, path)
    persons = content.get("people")
    if not isinstance(persons, list) or not all(isinstance(one, dict) for one in persons):
        raise _no_record(path, 'it has no list "people"')
    body = [_points(one, "pose_keypoints_2d", BODY, size, path) for one in persons]
    left, right, face = ([_points(one, name, count, size, path) for one in persons] for name, count in PARTS.items())
    return People(
        size, _stacked(body, BODY), np.stack([_stacked(left, HAND), _stacked(right, HAND)], 1), _stacked(face, FACE)
    )


def _stacked(points: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, count, 3)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise MaquetteError(f"The key points {str(path)!r} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise _no_record(path, f"it is no JSON ({error})") from error
    if isinstance(content, list) and len(content) == 1:  # nodes of ComfyUI keep a list of images
        content = content[0]
    if not isinstance(content, dict):
        raise _no_record(path, "it is not of one image")
    return content


def _canvas(content: dict[str, Any], path: Path) -> tuple[int, int]:
    width, height = (content.get(f"canvas_{side}") for side in ("width", "height"))
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 10**9)
    if type(width) is int and type(height) is int and width > 0 and height > 0 and width * height <= limit:
        return width, height
    raise _no_record(
        path, f'"canvas_width" and "canvas_height" are the size of the image in pixels, not {width!r} and {height!r}'
    )


def _points(person: dict[str, Any], name: str, count: int, size: tuple[int, int], path: Path) -> NDArray[np.float64]:
    given = person.get(name)
    try:
        numbers = np.asarray(given if given is not None else [], np.float64).ravel()
    except (ValueError, TypeError, OverflowError):
        raise _no_record(path, f'"{name}" holds something else than numbers') from None
    if len(numbers) % 3 or len(numbers) // 3 not in (0, *COUNTS[count]):
        wanted = " or ".join(str(3 * one) for one in COUNTS[count])
        raise _no_record(
            path, f'"{name}" holds {wanted} numbers, x, y and confidence of each point, not {len(numbers)}'
        )
    found = numbers.reshape(-1, 3)
    if np.abs(found[:, :2]).max(initial=0) <= 1:
        found[:, :2] *= size
    if not (np.abs(found) <= FARTHEST).all():  # nor is what is no number
        raise _no_record(path, f'"{name}" goes beyond {FARTHEST:,} pixels')
    if len(found) == 25:
        found = found[list(BODY_25)]
    points = np.zeros((count, 3))
    points[: len(found)] = found
    return points


def _no_record(path: Path, reason: str) -> MaquetteError:
    return MaquetteError(
        f"{str(path)!r} holds no key points: {reason}; give a file as OpenPose and the editors of the web UIs write it."
    )
