"""Solids with closed-form ray intersection.

Every solid has three methods: the distance at which each ray first enters it
(`hit`), the outward normals at points of its surface (`normal`), and a
bounding sphere (`bounds`, for culling). World axes: x right,
y up, z away from the viewer; metres. Directions have length 1. Shapes
broadcast: one origin and many directions (camera rays), or many origins and
one direction (sun rays).
"""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]  # float32 throughout

MISS = np.float32(np.inf)
_TINY = np.float32(1e-9)


class Solid(Protocol):
    """A solid in world coordinates."""

    def hit(self, origin: Array, direction: Array) -> Array:
        """Distance to the first entry of each ray, `inf` where it misses.

        `origin` and `direction` are (..., 3) and broadcast to (N, 3); returns (N,).
        """

    def normal(self, points: Array) -> Array:
        """Outward unit normals (N, 3) at points (N, 3) on the surface."""

    @property
    def bounds(self) -> tuple[Array, float]:
        """Centre (3,) and radius of a sphere around the solid."""


def vector(*values: float) -> Array:
    """A float32 vector."""
    return np.array(values, np.float32)


def dot(a: Array, b: Array) -> Array:
    """Inner product over the last axis, in single precision."""
    result: Array = np.einsum("...i,...i->...", a, b)
    return result


def unit(v: Array) -> Array:
    """Vectors (..., 3) scaled to length 1."""
    length: Array = np.sqrt(dot(v, v))[..., None]
    return v / np.maximum(length, _TINY)


def _safe(values: Array) -> Array:
    """The values with zeros replaced by a tiny number, as divisors."""
    return np.where(np.abs(values) < _TINY, _TINY, values)


def _root(discriminant: Array) -> Array:
    """Square root, 0 for negative values."""
    return np.sqrt(np.maximum(discriminant, 0))


def _entry(near: Array, far: Array) -> Array:
    """Entry into a convex solid that a ray crosses in [near, far], `inf` where it misses or starts inside."""
    return np.where((near < far) & (near > 0), near, MISS)


def _first(t: Array, valid: Array) -> Array:
    """The distances that are valid and positive, else `inf`."""
    return np.where(valid & (t > 0), t, MISS)


def _slab(origin: Array, direction: Array, low: float, high: float) -> tuple[Array, Array]:
    """Interval of each ray between the heights `low` and `high`."""
    inverse = 1 / _safe(direction[..., 1])
    a, b = (low - origin[..., 1]) * inverse, (high - origin[..., 1]) * inverse
    return np.minimum(a, b), np.maximum(a, b)


def _around_upright(base: Array, radius: float, height: float) -> tuple[Array, float]:
    """Bounding sphere of an upright cylinder or cone on `base`."""
    return base + vector(0, height / 2, 0), float(np.hypot(radius, height / 2))


@dataclass(frozen=True)
class Sphere:
    """A ball."""

    centre: Array
    radius: float

    @property
    def bounds(self) -> tuple[Array, float]:
        return self.centre, self.radius

    def hit(self, origin: Array, direction: Array) -> Array:
        offset = origin - self.centre
        b = dot(offset, direction)
        discriminant = b * b - dot(offset, offset) + self.radius**2
        return _first(-b - _root(discriminant), discriminant > 0)

    def normal(self, points: Array) -> Array:
        return (points - self.centre) / np.float32(self.radius)


@dataclass(frozen=True)
class Polyhedron:
    """The convex solid {x : faces @ x <= offsets}: a box, a roof."""

    faces: Array  # (K, 3) outward unit normals
    offsets: Array  # (K,)
    centre: Array
    radius: float

    @property
    def bounds(self) -> tuple[Array, float]:
        return self.centre, self.radius

    def hit(self, origin: Array, direction: Array) -> Array:
        near, far = vector(0), vector(np.inf)
        for face, offset in zip(self.faces, self.offsets, strict=True):
            slope = _safe(direction @ face)
            t = (offset - origin @ face) / slope
            near = np.maximum(near, np.where(slope < 0, t, -MISS))
            far = np.minimum(far, np.where(slope > 0, t, MISS))
        return _entry(near, far)

    def normal(self, points: Array) -> Array:
        return self.faces[np.argmax(points @ self.faces.T - self.offsets, axis=-1)]


@dataclass(frozen=True)
class Cylinder:
    """An upright cylinder on `base`, the centre of its lower disc."""

    base: Array
    radius: float
    height: float

    @property
    def bounds(self) -> tuple[Array, float]:
        return _around_upright(self.base, self.radius, self.height)

    def hit(self, origin: Array, direction: Array) -> Array:
        offset = (origin - self.base)[..., ::2]
        flat = direction[..., ::2]
        a = _safe(dot(flat, flat))
        b = dot(offset, flat)
        discriminant = b * b - a * (dot(offset, offset) - self.radius**2)
        root = np.where(discriminant > 0, _root(discriminant), np.nan)  # NaN fails every comparison below
        low, high = _slab(origin, direction, self.base[1], self.base[1] + self.height)
        return _entry(np.maximum((-b - root) / a, low), np.minimum((-b + root) / a, high))

    def normal(self, points: Array) -> Array:
        local = points - self.base
        side = local * vector(1, 0, 1) / np.float32(self.radius)
        above = local[:, 1] - self.height
        radial = np.hypot(local[:, 0], local[:, 2]) - self.radius
        lid = np.maximum(above, -local[:, 1]) > radial
        up = np.sign(above + self.height / 2)[:, None] * vector(0, 1, 0)
        return np.where(lid[:, None], up, side)


@dataclass(frozen=True)
class Cone:
    """An upright cone on `base`, its tip `height` above."""

    base: Array
    radius: float
    height: float

    @property
    def bounds(self) -> tuple[Array, float]:
        return _around_upright(self.base, self.radius, self.height)

    def hit(self, origin: Array, direction: Array) -> Array:
        tip = origin - self.base - vector(0, self.height, 0)
        slope = vector(1, -((self.radius / self.height) ** 2), 1)  # x² + z² = k² y²
        a = _safe(dot(direction * slope, direction))
        b = dot(tip * slope, direction)
        discriminant = b * b - a * dot(tip * slope, tip)
        root = _root(discriminant)
        t = self._hit_disc(origin, direction)
        for candidate in ((-b - root) / a, (-b + root) / a):
            y = tip[..., 1] + candidate * direction[..., 1]
            t = np.minimum(t, _first(candidate, (discriminant > 0) & (y < 0) & (y > -self.height)))
        return t

    def _hit_disc(self, origin: Array, direction: Array) -> Array:
        t = (self.base[1] - origin[..., 1]) / _safe(direction[..., 1])
        at = (origin - self.base + t[..., None] * direction)[..., ::2]
        return _first(t, dot(at, at) < self.radius**2)

    def normal(self, points: Array) -> Array:
        local = points - self.base
        side = unit(local * vector(1, 0, 1)) * np.float32(self.height) + vector(0, self.radius, 0)
        return np.where(local[:, 1:2] < 1e-4, vector(0, -1, 0), unit(side))


@dataclass(frozen=True)
class Capsule:
    """All points within `radius` of the segment from `start` to `end`: a limb."""

    start: Array
    end: Array
    radius: float

    @property
    def bounds(self) -> tuple[Array, float]:
        half = (self.end - self.start) / 2
        return self.start + half, float(np.sqrt(half @ half)) + self.radius

    def hit(self, origin: Array, direction: Array) -> Array:
        axis = self.end - self.start
        offset = origin - self.start
        length2, along, start = dot(axis, axis), dot(direction, axis), dot(offset, axis)
        a = _safe(length2 - along * along)
        b = length2 * dot(offset, direction) - start * along
        c = length2 * (dot(offset, offset) - self.radius**2) - start * start
        discriminant = b * b - a * c
        t = (-b - _root(discriminant)) / a
        y = start + t * along  # position along the axis, times its squared length
        body = _first(t, (discriminant > 0) & (y > 0) & (y < length2))
        caps = [Sphere(p, self.radius).hit(origin, direction) for p in (self.start, self.end)]
        return np.minimum(body, np.minimum(*caps))

    def normal(self, points: Array) -> Array:
        axis = self.end - self.start
        share = np.clip((points - self.start) @ axis / (axis @ axis), 0, 1)
        return (points - self.start - share[:, None] * axis) / np.float32(self.radius)


def box(centre: Array, size: tuple[float, float, float], turn: Array) -> Polyhedron:
    """A box of `size` (width, height, depth), turned by the rotation `turn` (3, 3)."""
    half = np.asarray(size, np.float32) / 2
    faces = np.concatenate([turn.T, -turn.T])
    offsets = faces @ centre + np.concatenate([half, half])
    return Polyhedron(faces, offsets, centre, float(np.sqrt(half @ half)))


def gable(base: Array, size: tuple[float, float, float], turn: Array) -> Polyhedron:
    """A saddle roof on `base` (the centre of its underside), its ridge along the width."""
    width, height, depth = size
    slope = np.float32(np.arctan2(depth / 2, height))
    rise, run = float(np.sin(slope)), float(np.cos(slope))
    local = np.array([[1, 0, 0], [-1, 0, 0], [0, -1, 0], [0, rise, -run], [0, rise, run]], np.float32)
    reach = vector(width / 2, width / 2, 0, rise * height, rise * height)
    faces = local @ turn.T
    return Polyhedron(faces, reach + faces @ base, base, float(np.sqrt(width**2 / 4 + depth**2 / 4 + height**2)))


def about_y(angle: float) -> Array:
    """Rotation by `angle` radians about the vertical; columns are the local axes in the world."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
