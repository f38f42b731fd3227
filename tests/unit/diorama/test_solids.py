"""Intersections agree with marching along the ray, and normals are perpendicular to the surface."""

import numpy as np
import pytest

from maquette.diorama.solids import Capsule, Cone, Cylinder, Sphere, about_y, box, gable, unit, vector

SOLIDS = {
    "sphere": Sphere(vector(0.1, 1, 4), 0.8),
    "box": box(vector(0, 1, 4), (1, 1.5, 0.8), about_y(0.6)),
    "gable": gable(vector(0, 0.5, 4), (1.5, 1, 1.2), about_y(-0.4)),
    "cylinder": Cylinder(vector(0.1, 0.3, 4), 0.6, 1.2),
    "cone": Cone(vector(0, 0.3, 4), 0.7, 1.5),
    "capsule": Capsule(vector(-0.4, 0.5, 4), vector(0.5, 1.4, 3.8), 0.3),
}


def inside(name: str, points: np.ndarray) -> np.ndarray:
    """Whether points lie in a solid, by its definition."""
    solid = SOLIDS[name]
    if name == "sphere":
        return np.linalg.norm(points - solid.centre, axis=-1) < solid.radius
    if name in ("box", "gable"):
        return np.all(points @ solid.faces.T < solid.offsets, axis=-1)
    if name == "capsule":
        axis = solid.end - solid.start
        share = np.clip((points - solid.start) @ axis / (axis @ axis), 0, 1)
        return np.linalg.norm(points - solid.start - share[:, None] * axis, axis=-1) < solid.radius
    local = points - solid.base
    radius = solid.radius * (1 - local[:, 1] / solid.height) if name == "cone" else solid.radius
    return (np.hypot(local[:, 0], local[:, 2]) < radius) & (local[:, 1] > 0) & (local[:, 1] < solid.height)


@pytest.fixture(scope="module")
def rays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.uniform([-1.2, 0, 3], [1.2, 2.2, 5], (4000, 3)).astype(np.float32)
    origin = vector(0.2, 1.4, 0)
    return origin, unit(targets - origin)


@pytest.mark.parametrize("name", SOLIDS)
def test_hit_is_where_marching_enters(name: str, rays) -> None:
    origin, directions = rays
    found = SOLIDS[name].hit(origin, directions)
    steps = np.arange(1.5, 7, 0.01, dtype=np.float32)
    marched = np.full(len(directions), np.inf)
    for t in steps[::-1]:
        marched[inside(name, origin + t * directions)] = t
    both = np.isfinite(found) & np.isfinite(marched)
    assert both.sum() > 300
    assert (np.isfinite(found) == np.isfinite(marched)).mean() > 0.99  # except grazing rays
    assert np.abs(found[both] - marched[both]).max() < 0.011


@pytest.mark.parametrize("name", SOLIDS)
def test_normals_point_outwards(name: str, rays) -> None:
    origin, directions = rays
    solid = SOLIDS[name]
    t = solid.hit(origin, directions)
    hit = np.isfinite(t)
    points = origin + t[hit, None] * directions[hit]
    normals = solid.normal(points)
    assert np.allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-4)
    assert not inside(name, points + 2e-3 * normals).any()
    assert inside(name, points - 1e-2 * normals).mean() > 0.97  # except at corners
    assert (np.sum(normals * directions[hit], axis=1) < 0.05).all()


@pytest.mark.parametrize("name", SOLIDS)
def test_bounds_contain_the_solid(name: str, rays) -> None:
    origin, directions = rays
    t = SOLIDS[name].hit(origin, directions)
    points = origin + t[np.isfinite(t), None] * directions[np.isfinite(t)]
    centre, radius = SOLIDS[name].bounds
    assert (np.linalg.norm(points - centre, axis=1) <= radius + 1e-3).all()


@pytest.mark.parametrize("name", SOLIDS)
def test_many_origins_and_one_direction(name: str, rays) -> None:
    """Rays to the sun broadcast like rays from the camera."""
    origin, directions = rays
    direction = directions[:1]
    shifted = origin + np.zeros((5, 3), np.float32)
    assert np.array_equal(SOLIDS[name].hit(shifted, direction[0]), np.repeat(SOLIDS[name].hit(origin, direction), 5))
