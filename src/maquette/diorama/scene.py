"""A scene: an image with its caption and ground truth, generated from a seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maquette.diorama.captions import caption
from maquette.diorama.render import Maps, image, maps
from maquette.diorama.solids import Array, dot, vector
from maquette.diorama.world import HALF_VIEW, World, compose
from maquette.errors import MaquetteError

SIZE = 128
"""Default width and height of a scene, pixels."""


@dataclass(frozen=True)
class Scene:
    """A rendered scene and its exact maps, H = W = size."""

    seed: int
    image: Image.Image  # RGB, (W, H)
    caption: str
    depth: Array  # (H, W) metres along the camera's axis; the sky is a dome 1000 m away
    normals: Array  # (H, W, 3) unit, camera axes (right, up, towards the viewer); 0 in the sky
    classes: NDArray[np.uint8]  # (H, W) index into `diorama.CLASSES`
    colours: NDArray[np.uint8]  # (H, W) 1 + index into `diorama.COLOUR_NAMES`, 0 where no colour is named
    keypoints: Array  # (people, 18, 3) pixels x, y and 1 where visible, else 0; order `diorama.KEYPOINTS`
    world: World


def scene(seed: int, size: int = SIZE) -> Scene:
    """Render the scene of a seed (0 or more) at size × size pixels; the same on every machine.

    The seed determines the content, `size` only the resolution.

    Raises `MaquetteError` for a seed that is not a whole number of 0 or more.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise MaquetteError(f"The seed of a scene is a whole number of 0 or more, not {seed!r}.")
    rng = np.random.default_rng(seed)
    world = compose(rng)
    text = caption(rng, world)
    exact = maps(world, size)
    return Scene(
        seed=seed,
        image=Image.fromarray(image(world, size)),
        caption=text,
        depth=exact.depth,
        normals=exact.normals,
        classes=exact.classes,
        colours=exact.colours,
        keypoints=_keypoints(world, exact, size),
        world=world,
    )


def _keypoints(world: World, exact: Maps, size: int) -> Array:
    """Project every person's key points, and mark the visible ones; returns (people, 18, 3)."""
    people = [(number, thing) for number, thing in enumerate(world.things) if thing.skeleton is not None]
    result = np.zeros((len(people), 18, 3), np.float32)
    for row, (number, thing) in enumerate(people):
        assert thing.skeleton is not None and thing.facing is not None
        offset = thing.skeleton - vector(0, world.camera.height, 0)
        x, y, z = (offset @ world.camera.axes.T).T
        pixels = (np.stack([x, -y], axis=1) / z[:, None] / HALF_VIEW + 1) / 2 * size
        result[row, :, :2] = pixels
        result[row, :, 2] = _visible(pixels, z, number, exact, size)
        result[row, 14:, 2] *= _face_turned(thing.skeleton, thing.facing, offset)
        result[row, 0, 2] *= dot(thing.facing, offset[0]) < 0
    return result


def _visible(pixels: Array, z: Array, number: int, exact: Maps, size: int) -> NDArray[np.bool_]:
    """Which pixels (18, 2) are inside the image and not behind another thing; the person's body occludes nothing."""
    inside: NDArray[np.bool_] = np.all((pixels >= 0) & (pixels < size), axis=1)
    column, row = np.clip(pixels, 0, size - 1).astype(int).T
    return inside & ((exact.owner[row, column] == number) | (exact.depth[row, column] > z - 0.1))


def _face_turned(skeleton: Array, facing: Array, offset: Array) -> NDArray[np.bool_]:
    """Which of right eye, left eye, right ear and left ear face the viewer, (4,)."""
    head = (skeleton[16] + skeleton[17]) / 2
    sight = offset[14:] / np.linalg.norm(offset[14:], axis=1, keepdims=True)
    outward = (skeleton[14:] - head) / np.linalg.norm(skeleton[14:] - head, axis=1, keepdims=True)
    facing_viewer: NDArray[np.bool_] = dot(outward, sight) < 0.35
    return facing_viewer
