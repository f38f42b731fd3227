"""Soft edges: where they are brightest, and what makes them faint."""

import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.detectors.softedge import soft_edges


def halves(left: tuple[int, int, int], right: tuple[int, int, int], size: int = 256) -> Image.Image:
    pixels = np.empty((size, size, 3), np.uint8)
    pixels[:, : size // 2], pixels[:, size // 2 :] = left, right
    return Image.fromarray(pixels)


def test_an_edge_is_brightest_where_it_is_and_falls_off_softly() -> None:
    row = soft_edges(halves((40, 40, 40), (200, 200, 200), 512))[256]
    assert row.argmax() in (255, 256)
    assert (np.diff(row[256:]) <= 0).all() and (np.diff(row[:256]) >= 0).all()
    assert row[256] > 0.9 and row[240] < 0.01
    assert ((row > 0.05) & (row < 0.8)).sum() >= 6


def test_the_larger_the_step_the_brighter() -> None:
    crests = [soft_edges(halves((90, 90, 90), (level,) * 3)).max() for level in (92, 100, 120, 180, 255)]
    assert crests == sorted(crests)
    assert crests[0] < 0.05 < 0.7 < crests[-1] < 1


def test_colours_of_one_lightness_have_an_edge() -> None:
    assert soft_edges(halves((200, 80, 80), (80, 140, 80))).max() > 0.5
    assert not np.asarray(mq.detect("xdog", halves((200, 80, 80), (80, 140, 80)), threshold=-0.5)).any()


def test_texture_is_fainter_than_the_boundary_of_a_thing() -> None:
    pixels = np.random.default_rng(0).integers(95, 126, (256, 256, 1)).repeat(3, axis=2)
    pixels[:, 128:] += 90
    soft = soft_edges(Image.fromarray(pixels.astype(np.uint8)))
    assert soft[:, 124:132].max(axis=1).mean() > 5 * soft[:, 20:100].mean()


def test_a_turned_image_has_a_turned_map() -> None:
    image = mq.diorama.scene(3).image
    turned = soft_edges(image.transpose(Image.Transpose.ROTATE_90))
    assert np.allclose(turned, np.rot90(soft_edges(image)), atol=1e-3)


@pytest.mark.parametrize("side", [512, 1536])
def test_edges_scale_with_the_image(side: int) -> None:
    small = soft_edges(halves((40, 40, 40), (200, 200, 200)))
    large = soft_edges(halves((40, 40, 40), (200, 200, 200), side))
    assert large.shape == (side, side)
    assert abs((small > 0.3).mean() - (large > 0.3).mean()) < 0.008


def test_safe_maps_have_three_levels() -> None:
    seen = np.asarray(mq.detect("softedge", mq.diorama.scene(3).image, safe=True))
    assert np.unique(seen).tolist() == [0, 127, 255]
