"""People as key points, and their files: OpenPose JSON, as the editors of the web UIs read and write it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.errors import MaquetteError
from maquette.foundation.reading.documents import read_json

BODY, HAND, FACE = 18, 21, 70

COCO = (0, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
"""COCO's indices of OpenPose's key points without the neck: nose, right and left arm, both legs, eyes, ears."""

BODY_25 = (*range(8), *range(9, 19))
"""Indices of the 18 key points in BODY_25, OpenPose's default model, which adds the mid-hip (8) and feet (19 on)."""

COUNTS = {BODY: (BODY, 25), HAND: (HAND,), FACE: (68, FACE)}  # allowed numbers of points in files

MAX_COORDINATE = 100_000  # pixels: points beyond cannot be drawn


@dataclass(frozen=True, eq=False)
class People:
    """P detected people; points are x, y in pixels of the image and a confidence, 0 where a point was not found."""

    size: tuple[int, int]  # width, height of the image
    body: NDArray[np.float64]  # (P, 18, 3) in OpenPose's order
    hands: NDArray[np.float64]  # (P, 2, 21, 3): left, right; the wrist, then each finger from its root
    face: NDArray[np.float64]  # (P, 70, 3): contour, brows, nose, eyes, lips, pupils

    @classmethod
    def of_bodies(cls, body: NDArray[np.floating], size: tuple[int, int]) -> Self:
        """People from bodies (P, 18, 3), without hands and faces."""
        count = len(body)
        return cls(size, np.asarray(body, np.float64), np.zeros((count, 2, HAND, 3)), np.zeros((count, FACE, 3)))

    def __len__(self) -> int:
        return len(self.body)

    def only(self, mask: NDArray[np.bool_]) -> "People":
        """The people selected by a mask (P,)."""
        return People(self.size, self.body[mask], self.hands[mask], self.face[mask])

    def thresholded(self, confidence: float) -> "People":
        """Confidence 1 for points of at least `confidence`; all others become 0, not found.

        The editors of the web UIs treat points of any other confidence as hidden.
        """
        return People(self.size, *(_thresholded(points, confidence) for points in (self.body, self.hands, self.face)))


def _thresholded(points: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    found = (points[..., 2:] >= confidence) & (points[..., 2:] > 0)
    return np.where(found, np.concatenate([points[..., :2], np.ones_like(points[..., 2:])], axis=-1), 0.0)


def from_coco(points: NDArray[np.floating]) -> NDArray[np.float64]:
    """OpenPose's 18 key points (P, 18, 3) from COCO's 17 (P, 17, 3).

    The neck is midway between the shoulders, with the lower confidence of the two.
    """
    shoulders = np.asarray(points, np.float64)[:, 5:7]
    neck = np.concatenate([shoulders[..., :2].mean(axis=1), shoulders[..., 2:].min(axis=1)], axis=-1)
    return np.insert(np.asarray(points, np.float64)[:, list(COCO)], 1, neck, axis=1)


def to_coco(body: NDArray[np.floating]) -> NDArray[np.float64]:
    """COCO's 17 key points (P, 17, 3) from OpenPose's 18 (P, 18, 3), without the neck; `from_coco` undone."""
    points = np.zeros((len(body), len(COCO), 3))
    points[:, list(COCO)] = np.delete(np.asarray(body, np.float64), 1, axis=1)
    return points


def completeness(people: People) -> NDArray[np.float64]:
    """Fraction of the 18 body key points found for each person, (P,) in [0, 1]."""
    return (people.body[..., 2] > 0).mean(axis=1)


def whole_body_completeness(people: People) -> float:
    """Completeness of the most complete person, 0 without people. The paper trains on images with at least 0.3."""
    return float(completeness(people).max(initial=0))


PARTS = {"hand_left_keypoints_2d": HAND, "hand_right_keypoints_2d": HAND, "face_keypoints_2d": FACE}


def write_people(people: People, path: Path) -> None:
    """Write OpenPose JSON with the size of the canvas; `read_people` restores the same numbers."""
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
    """Read people from a file in OpenPose's format (its doc/02_output.md) with the size of the canvas.

    A body has 18 points, or 25 as in OpenPose's default model (mid-hip and feet are dropped), a hand 21, a face 68, or
    70 with the pupils; empty or null where a part was not found. If no coordinate of a part exceeds 1, they are
    fractions of the canvas, as some editors write them.
    Raises `MaquetteError` for a file that holds no such people.
    """
    content = _content(path)
    size = _canvas_size(content, path)
    persons = content.get("people")
    if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
        raise _invalid(path, 'it has no list "people"')
    body = [_points(person, "pose_keypoints_2d", BODY, size, path) for person in persons]
    left, right, face = (
        [_points(person, name, count, size, path) for person in persons] for name, count in PARTS.items()
    )
    return People(
        size, _stacked(body, BODY), np.stack([_stacked(left, HAND), _stacked(right, HAND)], 1), _stacked(face, FACE)
    )


def _stacked(points: Sequence[NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    return np.array(points, np.float64).reshape(-1, count, 3)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path)
    except OSError as error:
        raise MaquetteError(f"The key points {str(path)!r} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise _invalid(path, f"it is not JSON ({error})") from error
    if isinstance(content, list) and len(content) == 1:  # ComfyUI nodes write a list of images
        content = content[0]
    if not isinstance(content, dict):
        raise _invalid(path, "it does not describe one image")
    return content


def _canvas_size(content: dict[str, Any], path: Path) -> tuple[int, int]:
    width, height = (content.get(f"canvas_{side}") for side in ("width", "height"))
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 10**9)
    if type(width) is int and type(height) is int and width > 0 and height > 0 and width * height <= limit:
        return width, height
    raise _invalid(
        path, f'"canvas_width" and "canvas_height" must be the image size in pixels, not {width!r} and {height!r}'
    )


def _points(person: dict[str, Any], name: str, count: int, size: tuple[int, int], path: Path) -> NDArray[np.float64]:
    values = person.get(name)
    try:
        numbers = np.asarray(values if values is not None else [], np.float64).ravel()
    except (ValueError, TypeError, OverflowError, MemoryError):
        raise _invalid(path, f'"{name}" holds something other than numbers') from None
    if len(numbers) % 3 or len(numbers) // 3 not in (0, *COUNTS[count]):
        expected = " or ".join(str(3 * points) for points in COUNTS[count])
        raise _invalid(
            path, f'"{name}" must hold {expected} numbers, x, y and confidence of each point, not {len(numbers)}'
        )
    found = numbers.reshape(-1, 3)
    if np.abs(found[:, :2]).max(initial=0) <= 1:
        found[:, :2] *= size
    if not (np.abs(found) <= MAX_COORDINATE).all():  # false for NaN too
        raise _invalid(path, f'"{name}" goes beyond {MAX_COORDINATE:,} pixels')
    if len(found) == 25:
        found = found[list(BODY_25)]
    points = np.zeros((count, 3))
    points[: len(found)] = found
    return points


def _invalid(path: Path, reason: str) -> MaquetteError:
    return MaquetteError(
        f"{str(path)!r} holds no key points: {reason}; give a file as OpenPose and the editors of the web UIs write it."
    )
