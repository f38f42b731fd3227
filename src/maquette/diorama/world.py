"""The content of a scene before rendering: things, light and camera."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maquette.diorama import things
from maquette.diorama.people import person
from maquette.diorama.settings import SETTINGS, Setting
from maquette.diorama.solids import Array, about_y, unit, vector
from maquette.diorama.things import Thing

Maker = Callable[[np.random.Generator, Array, bool], Thing]

MAKERS: dict[str, tuple[Maker, float]] = {  # with the half width in m reserved for each
    "ball": (things.ball, 0.72),
    "cube": (things.cube, 0.72),
    "cylinder": (things.cylinder, 0.55),
    "cone": (things.cone, 0.65),
    "house": (things.house, 1.30),
    "tree": (things.tree, 0.80),
    "person": (person, 0.62),
}
_SHARE = {"house": 1.3, "tree": 1.2, "person": 1.8}  # relative frequency; 1 for the others

HALF_VIEW = float(np.tan(np.radians(24)))  # half the width of the view at distance 1


@dataclass(frozen=True)
class Camera:
    """A camera above the origin of the world."""

    height: float  # m above the ground, over the origin
    axes: Array  # (3, 3), rows: right, up, forward


@dataclass(frozen=True)
class World:
    """Everything that is rendered."""

    setting: Setting
    things: tuple[Thing, ...]  # from left to right in the image
    camera: Camera
    sun: Array  # (3,) unit, towards the sun or the moon
    ridges: Array  # (2, 3, 3): near and far range, three waves, (height m, frequency, phase)
    moon: Array  # (3,) unit, direction of the visible moon
    stars: Array  # (S, 3) unit


def compose(rng: np.random.Generator) -> World:
    """Generate a random world from `rng` alone."""
    names = list(SETTINGS)
    setting = SETTINGS[names[rng.integers(len(names))]]
    camera = _camera(rng)
    standing = _place(rng, setting)
    return World(setting, standing, camera, _sun(rng, setting), _ridges(rng), *_night_sky(rng))


def _camera(rng: np.random.Generator) -> Camera:
    """A camera at eye level, tilted slightly down."""
    pitch = np.radians(rng.uniform(8, 13))
    c, s = np.cos(pitch), np.sin(pitch)
    axes = np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)
    return Camera(rng.uniform(1.35, 1.9), axes)


def _place(rng: np.random.Generator, setting: Setting) -> tuple[Thing, ...]:
    """One to four things side by side, as close to the camera as they fit into the image."""
    count = int(rng.choice([1, 2, 3, 4], p=[0.28, 0.40, 0.27, 0.05]))
    weights = np.array([_SHARE.get(kind, 1.0) for kind in MAKERS])
    kinds = [str(kind) for kind in rng.choice(list(MAKERS), count, p=weights / weights.sum())]
    widths = np.array([2 * MAKERS[kind][1] for kind in kinds])
    distance = max(rng.uniform(3.3, 4.3), widths.sum() / (2 * HALF_VIEW * 0.93) * rng.uniform(1.0, 1.15))
    free = 2 * HALF_VIEW * 0.97 * distance - widths.sum()
    gaps = rng.dirichlet(np.full(count + 1, 1.5)) * free
    centres = -HALF_VIEW * 0.97 * distance + np.cumsum(gaps[:-1] + widths) - widths / 2
    placed = []
    for kind, x in zip(kinds, centres, strict=True):
        nearness = rng.uniform(0.94, 1.1)  # keeps the horizontal position in the image
        position = vector(x * nearness, 0, distance * nearness)
        placed.append(MAKERS[kind][0](rng, position, setting.night))
    return tuple(placed)


def _sun(rng: np.random.Generator, setting: Setting) -> Array:
    """Direction of the sun, over the viewer's shoulder or from the side, so that visible surfaces are lit."""
    azimuth = rng.choice([-1, 1]) * np.radians(rng.uniform(25, 95))
    elevation = np.radians(rng.uniform(*setting.elevation))
    flat = about_y(azimuth) @ vector(0, 0, -1)
    return np.float32(np.cos(elevation)) * flat + vector(0, np.sin(elevation), 0)


def _ridges(rng: np.random.Generator) -> Array:
    """Waves of both ranges of hills, as in `World.ridges`."""
    waves = [[rng.uniform(0.3, 1.3), rng.uniform(2, 5) * (1 + 1.5 * i), rng.uniform(0, 6.3)] for i in range(3)]
    far = [[rng.uniform(0.6, 2.2), rng.uniform(2, 5) * (1 + 1.5 * i), rng.uniform(0, 6.3)] for i in range(3)]
    return np.array([waves, far], np.float32)


def _night_sky(rng: np.random.Generator) -> tuple[Array, Array]:
    """Directions of the moon (3,) and of the stars (22, 3)."""
    moon = vector(rng.uniform(-0.36, 0.36), rng.uniform(0.1, 0.22), 1)
    stars = np.stack([rng.uniform(-0.5, 0.5, 22), rng.uniform(0.06, 0.4, 22), np.ones(22)], axis=1)
    return unit(moon), unit(stars.astype(np.float32))
