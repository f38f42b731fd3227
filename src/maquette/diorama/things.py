"""Things in a scene: balls, cubes, cylinders, cones, houses and trees.

A `Thing` is a group of painted solids with a class for segmentation and a noun
phrase for captions. People, who also have key points, are in `people.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maquette.diorama.solids import Array, Cone, Cylinder, Solid, Sphere, about_y, box, gable, vector

CLASSES = ("sky", "hills", "ground", "ball", "cube", "cylinder", "cone", "house", "tree", "person")
"""Name of each value of a class map."""

COLOURS = {
    "red": (0.86, 0.12, 0.12),
    "orange": (0.96, 0.50, 0.08),
    "yellow": (0.97, 0.84, 0.14),
    "green": (0.12, 0.56, 0.20),
    "blue": (0.14, 0.32, 0.88),
    "purple": (0.48, 0.16, 0.66),
    "pink": (0.96, 0.56, 0.72),
    "brown": (0.43, 0.26, 0.14),
    "black": (0.08, 0.08, 0.09),
    "white": (0.94, 0.94, 0.94),
}
"""The ten colours that captions name, as sRGB in [0, 1]."""

COLOUR_NAMES = tuple(COLOURS)

Paint = Callable[[Array, Array], Array]
"""Maps points and normals in the thing's local axes, (N, 3) each, to linear albedo (N, 3); above 1 it glows."""


@dataclass(frozen=True)
class Part:
    """A painted solid."""

    solid: Solid
    paint: Paint
    colour: int = 0  # 1 + index into COLOUR_NAMES; 0 where the part shows no named colour
    shiny: bool = False


@dataclass(frozen=True)
class Thing:
    """Painted solids at a position, with class and phrase."""

    kind: str  # one of CLASSES
    phrase: str  # "striped red ball", without article
    parts: tuple[Part, ...]
    position: Array  # (3,), on the ground
    turn: Array  # (3, 3), local axes as columns
    reach: float  # radius of its footprint, m
    skeleton: Array | None = None  # (18, 3) key points in the world, for a person
    facing: Array | None = None  # (3,) direction that a person faces


def with_article(phrase: str) -> str:
    """ "a red ball", "an orange ball"."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def linear(srgb: tuple[float, float, float]) -> Array:
    """An sRGB colour in [0, 1] as linear RGB (3,), which shading works in."""
    return np.asarray(srgb, np.float32) ** np.float32(2.2)


def plain(colour: Array) -> Paint:
    """A single colour."""
    return lambda points, normals: np.broadcast_to(colour, points.shape)


def striped(colour: Array, other: Array, height: float, bands: int = 5) -> Paint:
    """Horizontal bands of two colours, `colour` at the bottom and the top."""

    def paint(points: Array, normals: Array) -> Array:
        band = np.floor(np.clip(points[:, 1] / height, 0, 0.999) * bands)
        return np.where((band % 2 == 0)[:, None], colour, other)

    return paint


def colour_index(name: str) -> int:
    """Value of a named colour in a colour map."""
    return 1 + COLOUR_NAMES.index(name)


def pick_colour(rng: np.random.Generator) -> str:
    """The name of a random colour."""
    return COLOUR_NAMES[rng.integers(len(COLOUR_NAMES))]


def _finish(rng: np.random.Generator, height: float) -> tuple[str, int, Paint, bool]:
    """A random colour, matte, shiny or striped: phrase, colour index, paint, whether it is shiny."""
    name = pick_colour(rng)
    colour = linear(COLOURS[name])
    finish = rng.random()
    if finish < 0.2:
        other = linear(COLOURS["black" if name == "white" else "white"])
        return f"striped {name}", colour_index(name), striped(colour, other, height), False
    if finish < 0.4:
        return f"shiny {name}", colour_index(name), plain(colour), True
    return name, colour_index(name), plain(colour), False


def _single(
    kind: str, rng: np.random.Generator, position: Array, turn: Array, solid: Solid, height: float, reach: float
) -> Thing:
    """A thing of one solid with a random finish."""
    adjectives, colour, paint, shiny = _finish(rng, height)
    return Thing(kind, f"{adjectives} {kind}", (Part(solid, paint, colour, shiny),), position, turn, reach)


def ball(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random ball at a position (3,) on the ground."""
    radius = rng.uniform(0.45, 0.75)
    turn = about_y(rng.uniform(-np.pi, np.pi))
    return _single("ball", rng, position, turn, Sphere(position + vector(0, radius, 0), radius), 2 * radius, radius)


def cube(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random cube at a position (3,) on the ground."""
    edge = rng.uniform(0.8, 1.2)
    turn = about_y(rng.uniform(-np.pi / 4, np.pi / 4))
    solid = box(position + vector(0, edge / 2, 0), (edge, edge, edge), turn)
    return _single("cube", rng, position, turn, solid, edge, 0.7 * edge)


def cylinder(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random cylinder at a position (3,) on the ground."""
    radius, height = rng.uniform(0.35, 0.55), rng.uniform(0.95, 1.5)
    return _single("cylinder", rng, position, about_y(0), Cylinder(position, radius, height), height, radius)


def cone(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random cone at a position (3,) on the ground."""
    radius, height = rng.uniform(0.48, 0.68), rng.uniform(1.15, 1.75)
    return _single("cone", rng, position, about_y(0), Cone(position, radius, height), height, radius)


def house(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random house with a saddle roof at a position (3,) on the ground."""
    width, height, depth = rng.uniform(1.7, 2.3), rng.uniform(1.0, 1.3), rng.uniform(1.3, 1.7)
    turn = about_y(rng.uniform(-0.75, 0.75))
    walls, roof = (str(name) for name in rng.choice(COLOUR_NAMES, 2, replace=False))
    roof_size = (width + 0.3, rng.uniform(0.65, 0.95), depth + 0.3)
    solids = (
        box(position + vector(0, height / 2, 0), (width, height, depth), turn),
        gable(position + vector(0, height, 0), roof_size, turn),
    )
    parts = (
        Part(solids[0], _walls(linear(COLOURS[walls]), width, depth, height, night), colour_index(walls)),
        Part(solids[1], plain(linear(COLOURS[roof])), colour_index(roof)),
    )
    phrase = f"{walls} house with {with_article(roof)} roof"
    return Thing("house", phrase, parts, position, turn, 0.5 * float(np.hypot(width, depth)))


def _walls(colour: Array, width: float, depth: float, height: float, night: bool) -> Paint:
    """Walls with a door and two windows on either long side and one window on either short side."""
    glass = linear((0.62, 0.78, 0.86)) if not night else vector(3.2, 2.3, 0.9)  # lit at night
    frame, door = linear((0.95, 0.95, 0.92)), linear((0.35, 0.2, 0.1))

    def paint(points: Array, normals: Array) -> Array:
        across = np.where(np.abs(normals[:, 2]) > 0.5, points[:, 0] / width, 2.0)  # long sides: -0.5 … 0.5
        side = np.where(np.abs(normals[:, 0]) > 0.5, points[:, 2] / depth, 2.0)
        up = points[:, 1] / height
        albedo = np.broadcast_to(colour, points.shape).copy()
        window = np.minimum(np.abs(np.abs(across) - 0.3), np.abs(side) * 0.8)
        albedo[(window < 0.13) & (np.abs(up - 0.58) < 0.23)] = frame
        albedo[(window < 0.10) & (np.abs(up - 0.58) < 0.18)] = glass
        albedo[(np.abs(across) < 0.095) & (up < 0.68)] = door
        return albedo

    return paint


def tree(rng: np.random.Generator, position: Array, night: bool) -> Thing:
    """A random pine or round tree at a position (3,) on the ground."""
    name = "green" if rng.random() < 0.4 else pick_colour(rng)
    crown = (linear(COLOURS[name]), colour_index(name))
    trunk_height = rng.uniform(0.35, 0.6)
    trunk = Part(Cylinder(position, rng.uniform(0.1, 0.14), trunk_height + 0.3), plain(linear((0.33, 0.2, 0.11))))
    grow = _pine_crown if rng.random() < 0.5 else _round_crown
    kind = "pine tree" if grow is _pine_crown else "round tree"
    solids = grow(rng, position + vector(0, trunk_height, 0))
    parts = (trunk, *(Part(solid, plain(crown[0]), crown[1]) for solid in solids))
    return Thing("tree", f"{name} {kind}", parts, position, about_y(0), 0.6)


def _pine_crown(rng: np.random.Generator, at: Array) -> list[Solid]:
    radius, height = rng.uniform(0.6, 0.75), rng.uniform(0.75, 0.95)
    return [Cone(at + vector(0, 0.55 * height * i, 0), radius * (1 - 0.22 * i), height) for i in range(3)]


def _round_crown(rng: np.random.Generator, at: Array) -> list[Solid]:
    radius = rng.uniform(0.55, 0.7)
    solids: list[Solid] = [Sphere(at + vector(0, 0.85 * radius, 0), radius)]
    for side in (-1, 1):
        offset = vector(side * rng.uniform(0.5, 0.7) * radius, rng.uniform(0.6, 1.2) * radius, rng.uniform(-0.3, 0.2))
        solids.append(Sphere(at + offset, radius * rng.uniform(0.6, 0.75)))
    return solids
