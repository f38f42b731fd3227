"""One scene: an image, its caption and everything that is true of it, from a seed alone."""

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
"""Width and height of a scene, unless asked otherwise."""


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
    keypoints: Array  # (people, 18, 3) pixels x, y and 1 where seen, else 0; order `diorama.KEYPOINTS`
    world: World


def scene(seed: int, size: int = SIZE) -> Scene:
    """The scene of a seed (0 or more), drawn at size × size pixels; the same on every machine.

    The seed alone decides what stands where; `size` only how finely it is drawn.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise MaquetteError(f"The seed of a scene is a whole number of 0 or more, not {seed!r}.")
    rng = np.random.default_rng(seed)
    world = compose(rng)
    words = caption(rng, world)
    exact = maps(world, size)
    return Scene(
        seed=seed,
        image=Image.fromarray(image(world, size)),
        caption=words,
        depth=exact.depth,
        normals=exact.normals,
        classes=exact.classes,
        colours=exact.colours,
        keypoints=_keypoints(world, exact, size),
        world=world,
    )


def _keypoints(world: World, exact: Maps, size: int) -> Array:
    """Project every person's key points and mark those in sight."""
    people = [(number, thing) for number, thing in enumerate(world.things) if thing.skeleton is not None]
    result = np.zeros((len(people), 18, 3), np.float32)
    for row, (number, thing) in enumerate(people):
        assert thing.skeleton is not None and thing.facing is not None
        offset = thing.skeleton - vector(0, world.camera.height, 0)
        x, y, z = (offset @ world.camera.axes.T).T
        pixels = (np.stack([x, -y], axis=1) / z[:, None] / HALF_VIEW + 1) / 2 * size
        result[row, :, :2] = pixels
        result[row, :, 2] = _in_sight(pixels, z, number, exact, size)
        result[row, 14:, 2] *= _face_turned(thing.skeleton, thing.facing, offset)
        result[row, 0, 2] *= dot(thing.facing, offset[0]) < 0
    return result


def _in_sight(pixels: Array, z: Array, number: int, exact: Maps, size: int) -> NDArray[np.bool_]:
    """Inside the image and not behind another thing; a person's own body hides nothing."""
    inside: NDArray[np.bool_] = np.all((pixels >= 0) & (pixels < size), axis=1)
    column, row = np.clip(pixels, 0, size - 1).astype(int).T
    return inside & ((exact.owner[row, column] == number) | (exact.depth[row, column] > z - 0.1))


def _face_turned(skeleton: Array, facing: Array, offset: Array) -> NDArray[np.bool_]:
    """Which of eyes and ears (right eye, left eye, right ear, left ear) face the viewer."""
    head = (skeleton[16] + skeleton[17]) / 2
    sight = offset[14:] / np.linalg.norm(offset[14:], axis=1, keepdims=True)
    outward = (skeleton[14:] - head) / np.linalg.norm(skeleton[14:] - head, axis=1, keepdims=True)
    seen: NDArray[np.bool_] = dot(outward, sight) < 0.35
    return seen
