"""Edits by a pen, painted on transparency: outside the strokes no pixel differs, and inside they set in softly."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageDraw
from tests.conftest import tiny_base

import maquette as mq
from maquette.base import Base
from maquette.foundation.images import fit, open_image

PHOTOS = Path(__file__).resolve().parents[3] / "shared/data/photos"
FEATHER = 8


def pen(side: int) -> Image.Image:
    """Two strokes of the pen, as wide as a soft edge on both sides needs, on nothing."""
    layer = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    draw, width = ImageDraw.Draw(layer), max(2 * FEATHER + 4, side // 18)
    curve = [(side * (0.1 + 0.8 * t), side * (0.35 + 0.2 * np.sin(5 * t))) for t in np.linspace(0, 1, 40)]
    draw.line(curve, "white", width, joint="curve")
    draw.line([(side * 0.25, side * 0.9), (side * 0.7, side * 0.65)], "white", width)
    return layer


def check(original: Image.Image, edited: Image.Image, layer: Image.Image) -> None:
    strokes = np.asarray(layer.getchannel("A")) > 0
    change = np.abs(np.asarray(edited, np.int16) - np.asarray(original, np.int16)).max(axis=2)
    assert np.count_nonzero(change[~strokes]) == 0
    depth = cv2.distanceTransform(strokes.astype(np.uint8), cv2.DIST_C, 3)
    border, middle = change[depth == 1].mean(), change[depth > FEATHER].mean()
    assert 0 < border < 0.4 * middle


@pytest.mark.parametrize("seed", [7, 20, 57])
def test_scenes(seed) -> None:
    base, scene, layer = mq.load_base("diorama"), mq.diorama.scene(seed).image, pen(128)
    (edited,) = mq.generate(base, "a red ball", image=scene, mask=layer, steps=4, seed=seed, feather=FEATHER)
    check(scene, edited, layer)


@pytest.fixture(scope="module")
def published_size() -> Base:
    """A tiny U-Net with an autoencoder of Stable Diffusion's shape, on random weights."""
    small = tiny_base("sd15")
    torch.manual_seed(0)
    autoencoder = AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    return Base("published size", small.backbone, autoencoder, small.text, small.scheduler_config, 512)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the photographs are not here")
@pytest.mark.parametrize("name", ["city.jpg", "bakery.jpg", "paris.jpg"])
def test_photographs(published_size, name) -> None:
    """At 512 pixels, through an autoencoder that returns nothing like what it is given."""
    original, layer = fit(open_image(PHOTOS / name), (512, 512)), pen(512)
    settings = {"steps": 1, "size": (512, 512), "feather": FEATHER}
    (edited,) = mq.generate(published_size, "a", image=open_image(PHOTOS / name), mask=layer, **settings)
    check(original, edited, layer)
