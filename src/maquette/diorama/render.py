"""Render a world: trace one ray per sample, then shade with sun, shadow, sky light and haze.

Images use 2×2 rays per pixel; the exact maps (depth, normals, classes,
colours) use one ray through each pixel's centre.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette.diorama.solids import Array, dot, unit, vector
from maquette.diorama.things import CLASSES, Part, Thing
from maquette.diorama.world import HALF_VIEW, World

SKY, HILLS, GROUND = 0, 1, 2  # `Hits.index`; part k of the world is 3 + k
SKY_DISTANCE = 1000.0  # m; the sky is a dome this far away
RIDGE_DISTANCES = (45.0, 70.0)  # m; the hills are two painted backdrops around the viewer
RIDGE_BASES = (0.8, 3.0)  # m


@dataclass(frozen=True)
class Hits:
    """The surface that each of (H, W) rays hits."""

    rays: Array  # (H, W, 3) unit directions
    distance: Array  # (H, W) along the ray, m
    index: NDArray[np.int16]  # (H, W)
    ridge: NDArray[np.int8]  # (H, W) index of the range of hills, where hills are hit
    parts: tuple[tuple[Thing, Part], ...]


def trace(world: World, size: int) -> Hits:
    """Nearest surface along size × size rays through pixel centres."""
    rays = _rays(world, size)
    origin = vector(0, world.camera.height, 0)
    distance = np.full((size, size), SKY_DISTANCE, np.float32)
    index = np.zeros((size, size), np.int16)
    ridge = _trace_hills(world, rays, distance, index)
    with np.errstate(divide="ignore"):
        ground = np.where(rays[..., 1] < 0, -origin[1] / rays[..., 1], np.inf)
    nearer = ground < distance
    distance[nearer], index[nearer] = ground[nearer], GROUND
    parts = tuple((thing, part) for thing in world.things for part in thing.parts)
    for number, (_, part) in enumerate(parts):
        window = _window(world, *part.solid.bounds, size)
        hit = part.solid.hit(origin, rays[window].reshape(-1, 3)).reshape(distance[window].shape)
        nearer = hit < distance[window]
        distance[window][nearer], index[window][nearer] = hit[nearer], 3 + number
    return Hits(rays, distance, index, ridge, parts)


def _rays(world: World, size: int) -> Array:
    """Unit directions (size, size, 3) through the pixel centres."""
    across = ((np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1) * np.float32(HALF_VIEW)
    u, v = np.meshgrid(across, -across)
    local = np.stack([u, v, np.ones_like(u)], axis=-1)
    return unit(local @ world.camera.axes)


def _trace_hills(world: World, rays: Array, distance: Array, index: NDArray[np.int16]) -> NDArray[np.int8]:
    """Add the hills to `distance` and `index` (H, W) in place; returns the range hit by each ray (H, W)."""
    ridge = np.zeros(index.shape, np.int8)
    azimuth = np.arctan2(rays[..., 0], rays[..., 2])
    level = np.hypot(rays[..., 0], rays[..., 2])
    for which in (1, 0):  # the far range first
        t = np.float32(RIDGE_DISTANCES[which]) / level
        top = np.float32(RIDGE_BASES[which])
        for height, frequency, phase in world.ridges[which]:
            top = top + height * np.sin(frequency * azimuth + phase)
        inside = world.camera.height + t * rays[..., 1] < top
        distance[inside], index[inside], ridge[inside] = t[inside], HILLS, which
    return ridge


def _window(world: World, centre: Array, radius: float, size: int) -> tuple[slice, slice]:
    """Rows and columns of the image that can show a sphere, for culling."""
    x, y, z = world.camera.axes @ (centre - vector(0, world.camera.height, 0))
    spans = []
    for offset in (-y, x):
        reach = np.hypot(offset, z)
        if z <= 0 or reach <= radius * 1.2:
            spans.append(slice(0, size))
            continue
        angle, spread = np.arctan2(offset, z), np.arcsin(radius / reach)
        edges = np.tan(np.clip([angle - spread, angle + spread], -1.4, 1.4)) / HALF_VIEW
        low, high = np.clip((edges + 1) / 2 * size, 0, size)
        spans.append(slice(int(np.floor(low)), int(np.ceil(high))))
    return spans[0], spans[1]


def image(world: World, size: int) -> NDArray[np.uint8]:
    """The world as (size, size, 3) sRGB bytes, 2×2 samples per pixel."""
    samples = _shade(world, trace(world, 2 * size))
    light = (samples[::2, ::2] + samples[1::2, ::2] + samples[::2, 1::2] + samples[1::2, 1::2]) / 4
    return (np.clip(light, 0, 1) ** np.float32(1 / 2.2) * 255 + 0.5).astype(np.uint8)


@dataclass(frozen=True)
class _Surface:
    """The N samples that show ground or things."""

    rays: Array  # (N, 3)
    points: Array  # (N, 3)
    normals: Array  # (N, 3)
    albedo: Array  # (N, 3)
    shiny: NDArray[np.intp]  # indices of the shiny samples


def _shade(world: World, hits: Hits) -> Array:
    """Linear radiance (H, W, 3) of every ray."""
    light = _sky_light(world, hits.rays).reshape(-1, 3)
    index, distance = hits.index.ravel(), hits.distance.ravel()
    hills, solid = np.flatnonzero(index == HILLS), np.flatnonzero(index >= GROUND)
    light[hills] = np.stack(world.setting.hills)[hits.ridge.ravel()[hills]]
    light[solid] = _haze(world, _solid_light(world, _surface(world, hits, solid)), distance[solid])
    return light.reshape(hits.rays.shape)


def _surface(world: World, hits: Hits, solid: NDArray[np.intp]) -> _Surface:
    """Points, normals and albedo of the samples at flat indices `solid` (N,)."""
    index, rays = hits.index.ravel()[solid], hits.rays.reshape(-1, 3)[solid]
    points = rays * hits.distance.ravel()[solid][:, None] + vector(0, world.camera.height, 0)
    normals, albedo = np.empty_like(points), np.empty_like(points)
    shiny = [np.empty(0, np.intp)]
    ground = np.flatnonzero(index == GROUND)
    albedo[ground], normals[ground] = _ground_albedo(world, points[ground]), vector(0, 1, 0)
    for number in np.unique(index[index > GROUND]):
        thing, part = hits.parts[number - 3]
        here = np.flatnonzero(index == number)
        normals[here] = part.solid.normal(points[here])
        albedo[here] = part.paint((points[here] - thing.position) @ thing.turn, normals[here] @ thing.turn)
        if part.shiny:
            shiny.append(here)
    return _Surface(rays, points, normals, albedo, np.concatenate(shiny))


def _solid_light(world: World, surface: _Surface) -> Array:
    """Linear radiance (N, 3) of the surface, without haze."""
    sunlight = _sunlight(world, surface.points, surface.normals)
    open_sky = (0.81 + 0.19 * surface.normals[:, 1]) * _contact(world, surface.points)
    light = surface.albedo * (world.setting.ambient * open_sky[:, None] + world.setting.sun * sunlight[:, None])
    shiny = surface.shiny
    light[shiny] += _gloss(world, surface.rays[shiny], surface.normals[shiny], sunlight[shiny])
    return light


def _haze(world: World, light: Array, distance: Array) -> Array:
    """Blend radiance (N, 3) into the horizon's colour beyond 8 m."""
    clear = np.exp(np.minimum(8 - distance, 0) / 50)[:, None]
    return light * clear + world.setting.horizon * (1 - clear)


def _ground_albedo(world: World, points: Array) -> Array:
    """Soft patches of two tones, fixed to the ground, at points (N, 3); returns (N, 3)."""
    x, z = points[:, 0], points[:, 2]
    phase = world.ridges[0, :, 2]
    patch = np.sin(0.9 * x + phase[0] + 1.1 * np.sin(0.7 * z)) * np.sin(1.3 * z + phase[1] + 0.8 * np.sin(0.5 * x))
    light, dark = world.setting.ground
    return dark + (light - dark) * (0.5 + 0.5 * patch)[:, None]


def _sunlight(world: World, points: Array, normals: Array) -> Array:
    """Cosine (N,) between normal and sun at each point, 0 in shadow."""
    cosine = np.maximum(normals @ world.sun, 0)
    for thing in world.things:
        centre, radius = _bounds(thing)
        near = _in_beam(points, world.sun, centre, radius) & (cosine > 0)
        candidates = np.flatnonzero(near)
        for part in thing.parts:
            inside = candidates[_in_beam(points[candidates], world.sun, *part.solid.bounds)]
            start = points[inside] + normals[inside] * np.float32(2e-3)
            cosine[inside[np.isfinite(part.solid.hit(start, world.sun))]] = 0
    return cosine


def _bounds(thing: Thing) -> tuple[Array, float]:
    """Centre (3,) and radius of a sphere around a thing."""
    spheres = [part.solid.bounds for part in thing.parts]
    centre = np.stack([c for c, _ in spheres]).mean(axis=0)
    return centre, max(float(np.linalg.norm(c - centre)) + r for c, r in spheres)


def _in_beam(points: Array, sun: Array, centre: Array, radius: float) -> NDArray[np.bool_]:
    """Which of the points (N, 3) have a sphere between them and the sun."""
    offset = centre - points
    along = offset @ sun
    inside: NDArray[np.bool_] = (along > -radius) & (dot(offset, offset) - along * along < radius**2)
    return inside


def _contact(world: World, points: Array) -> Array:
    """Contact shadow: share (N,) of sky light that reaches the ground near things."""
    open_sky = np.ones(len(points), np.float32)
    low = np.flatnonzero(points[:, 1] < 0.01)
    for thing in world.things:
        offset = points[low] - thing.position
        near = np.flatnonzero(dot(offset, offset) < 6 * thing.reach**2)
        share = dot(offset[near], offset[near]) / np.float32(1.1 * thing.reach**2)
        open_sky[low[near]] *= 1 - 0.55 * np.exp(-share)
    return open_sky


def _gloss(world: World, rays: Array, normals: Array, sunlit: Array) -> Array:
    """Radiance (N, 3) added by a shiny surface: the sun's highlight and a faint reflection of the sky."""
    mirrored = rays - 2 * dot(rays, normals)[:, None] * normals
    highlight = np.maximum(mirrored @ world.sun, 0) ** 45 * (sunlit > 0)
    grazing = (1 - np.abs(dot(rays, normals))) ** 3
    sky = _sky_colour(world, np.abs(mirrored[:, 1]))
    return 1.6 * highlight[:, None] * world.setting.sun + (0.08 + 0.5 * grazing)[:, None] * sky


def _sky_colour(world: World, height: Array) -> Array:
    """Colour (..., 3) of the sky at a ray's vertical component (...)."""
    share = np.clip(height / 0.45, 0, 1)[..., None] ** np.float32(0.7)
    return world.setting.horizon + (world.setting.zenith - world.setting.horizon) * share


def _sky_light(world: World, rays: Array) -> Array:
    """Radiance (H, W, 3) of the sky along rays (H, W, 3), with the moon and the stars at night."""
    light = _sky_colour(world, rays[..., 1])
    if world.setting.night:
        for star in world.stars:
            light[rays @ star > 1 - 3.2e-6] = vector(0.75, 0.78, 0.85)
        moon = rays @ world.moon
        light += np.clip((moon - 0.985) / 0.015, 0, 1)[..., None] ** 2 * vector(0.06, 0.07, 0.10)
        light[moon > np.cos(0.055)] = vector(0.95, 0.92, 0.76)
    return light


@dataclass(frozen=True)
class Maps:
    """Exact maps of a world, sampled at pixel centres."""

    depth: Array  # (H, W) metres along the camera's axis
    normals: Array  # (H, W, 3) in the camera's axes: right, up, towards the viewer; 0 in the sky
    classes: NDArray[np.uint8]  # (H, W) index into CLASSES
    colours: NDArray[np.uint8]  # (H, W) 1 + index into COLOUR_NAMES, 0 for none
    owner: NDArray[np.int16]  # (H, W) index of the thing, -1 for none


def maps(world: World, size: int) -> Maps:
    """Render the exact maps, H = W = size."""
    hits = trace(world, size)
    axes = world.camera.axes * vector(1, 1, -1)[:, None]
    points = hits.rays * hits.distance[..., None] + vector(0, world.camera.height, 0)
    normals = np.zeros_like(points)
    normals[hits.index == GROUND] = vector(0, 1, 0)
    hills = hits.index == HILLS
    normals[hills] = unit(points[hills] * vector(-1, 0, -1))
    classes = np.minimum(hits.index, GROUND).astype(np.uint8)
    colours = np.zeros(classes.shape, np.uint8)
    owner = np.full(classes.shape, -1, np.int16)
    order = {id(thing): number for number, thing in enumerate(world.things)}
    for number, (thing, part) in enumerate(hits.parts):
        here = hits.index == 3 + number
        normals[here] = part.solid.normal(points[here])
        classes[here], colours[here] = CLASSES.index(thing.kind), part.colour
        owner[here] = order[id(thing)]
    depth = hits.distance * (hits.rays @ world.camera.axes[2])
    return Maps(depth, unit(normals) @ axes.T, classes, colours, owner)
