import hashlib

import numpy as np
import pytest

from maquette import diorama
from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.diorama.render import SKY_DISTANCE
from maquette.diorama.settings import SETTINGS

SEEDS = range(100, 140)


@pytest.fixture(scope="module")
def scenes() -> list[diorama.Scene]:
    return [diorama.scene(seed) for seed in SEEDS]


def digest(scene: diorama.Scene) -> str:
    parts = (np.asarray(scene.image), scene.depth, scene.normals, scene.classes, scene.colours, scene.keypoints)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + scene.caption.encode()).hexdigest()


def test_the_seed_determines_the_scene(scenes) -> None:
    assert digest(diorama.scene(SEEDS[7])) == digest(scenes[7])
    assert len({digest(scene) for scene in scenes}) == len(scenes)


def test_shapes_and_ranges(scenes) -> None:
    for scene in scenes:
        assert scene.image.size == (128, 128)
        assert scene.image.mode == "RGB"
        assert scene.depth.shape == scene.classes.shape == scene.colours.shape == (128, 128)
        assert (scene.depth > 0).all()
        assert scene.normals.shape == (128, 128, 3)
        assert scene.keypoints.shape[1:] == (18, 3)
        assert scene.classes.max() < len(diorama.CLASSES)
        assert scene.colours.max() <= len(diorama.COLOUR_NAMES)


def test_maps_agree_with_each_other(scenes) -> None:
    for scene in scenes:
        sky = scene.classes == diorama.CLASSES.index("sky")
        lengths = np.linalg.norm(scene.normals, axis=-1)
        assert np.allclose(lengths[sky], 0)
        assert np.allclose(lengths[~sky], 1, atol=1e-3)
        assert (scene.depth[sky] > 0.5 * SKY_DISTANCE).all()
        assert (scene.depth[~sky] < SKY_DISTANCE).all()
        assert ((scene.colours > 0) <= (scene.classes > 2)).all()


def test_depth_and_normals_describe_one_surface(scenes) -> None:
    """On flat ground, the plane through a pixel and its normal holds its neighbours."""
    scene = scenes[0]
    ground = scene.classes == diorama.CLASSES.index("ground")
    half = np.tan(np.radians(24))
    across = ((np.arange(128) + 0.5) / 64 - 1) * half
    u, v = np.meshgrid(across, -across)
    points = np.stack([u, v, -np.ones_like(u)], -1) * scene.depth[..., None]
    distance = np.sum(points * scene.normals, -1)[ground]
    assert distance.std() < 1e-3 * abs(distance.mean())


def test_what_the_caption_names_is_in_the_image(scenes) -> None:
    for scene in scenes:
        for thing in scene.world.things:
            assert (scene.classes == diorama.CLASSES.index(thing.kind)).sum() > 20
        caption = scene.caption
        if any(phrase in caption for setting in SETTINGS.values() for phrase in setting.phrases):
            assert all(thing.phrase in caption for thing in scene.world.things)


def test_some_captions_are_the_default_prompt() -> None:
    captions = [diorama.scene(seed, size=16).caption for seed in range(400)]
    assert 0 < sum(caption == DEFAULT_PROMPT for caption in captions) < 20


def test_people_stand_where_their_key_points_are(scenes) -> None:
    person = diorama.CLASSES.index("person")
    inside = []
    for scene in scenes:
        people = sum(thing.kind == "person" for thing in scene.world.things)
        assert len(scene.keypoints) == people
        for x, y, visible in scene.keypoints.reshape(-1, 3):
            if visible:
                assert 0 <= x < 128
                assert 0 <= y < 128
                inside.append(scene.classes[int(y), int(x)] == person)
    assert len(inside) > 100
    assert np.mean(inside) > 0.95


def test_size_changes_only_the_resolution() -> None:
    small, large = diorama.scene(123), diorama.scene(123, size=256)
    assert small.caption == large.caption
    downsampled = np.asarray(large.image.resize((128, 128), 4), np.float32)
    assert np.abs(downsampled - np.asarray(small.image, np.float32)).mean() < 2
    assert np.allclose(large.keypoints[..., :2], 2 * small.keypoints[..., :2], atol=1e-3)


def test_shadows_fall_on_the_ground(scenes) -> None:
    """Some of the ground is much darker than the rest, by day."""
    day = next(scene for scene in scenes if scene.world.setting is SETTINGS["day"])
    ground = np.asarray(day.image.convert("L"), np.float32)[day.classes == diorama.CLASSES.index("ground")]
    assert (ground < 0.7 * np.median(ground)).mean() > 0.005
