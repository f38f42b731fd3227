"""How exact maps are drawn, and read back."""

import numpy as np
import pytest

from maquette import diorama
from maquette.conditions.drawing.class_maps import DIORAMA_PALETTE, class_map
from maquette.conditions.drawing.skeletons import COLOURS, LIMBS, pose_map
from maquette.conditions.drawing.surfaces import depth_map, normal_map


@pytest.fixture(scope="module")
def scene() -> diorama.Scene:
    return diorama.scene(9)


def test_near_is_bright(scene) -> None:
    levels = np.asarray(depth_map(scene.depth))[..., 0].astype(float)
    assert levels.max() == 255
    order = np.argsort(scene.depth.ravel())
    assert (np.diff(levels.ravel()[order]) <= 0).all()


def test_normals_survive_drawing(scene) -> None:
    drawn = np.asarray(normal_map(scene.normals), np.float32) / 127.5 - 1
    assert np.abs(drawn - scene.normals).max() < 0.01


def test_classes_survive_drawing(scene) -> None:
    drawn = np.asarray(class_map(scene.classes))
    for number in np.unique(scene.classes):
        assert np.array_equal((drawn == DIORAMA_PALETTE[number]).all(axis=-1), scene.classes == number)
    assert len({tuple(colour) for colour in DIORAMA_PALETTE}) == len(diorama.CLASSES)


def test_skeletons_are_drawn_where_they_are() -> None:
    person = np.zeros((1, 18, 3))
    person[0, :, 0], person[0, :, 1] = np.linspace(20, 230, 18), np.linspace(30, 220, 18)
    person[0, :, 2] = 1
    full = np.asarray(pose_map(person, (256, 256)))
    assert full[int(person[0, 7, 1]), int(person[0, 7, 0])].any()
    person[0, 4, 2] = 0  # right wrist unseen: neither the point nor the limb that ends in it
    less = np.asarray(pose_map(person, (256, 256)))
    changed = (full != less).any(axis=-1)
    assert changed.any()
    assert not np.asarray(pose_map(np.zeros((0, 18, 3)), (8, 6))).any()
    assert pose_map(np.zeros((0, 18, 3)), (8, 6)).size == (8, 6)
    assert len(LIMBS) == 17
    assert len(COLOURS) == 18
