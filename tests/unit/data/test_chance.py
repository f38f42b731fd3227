import numpy as np
import pytest
from PIL import Image

import maquette as mq
from maquette.conditions.registry import detectors
from maquette.data.random_detectors import DRAWS, draw_named
from maquette.errors import MaquetteError


def test_any_detector_can_compute_training_conditions() -> None:
    image = mq.diorama.scene(7).image
    assert draw_named("softedge")(image, np.random.default_rng(0)) == mq.detect("softedge", image)
    assert draw_named("canny") is DRAWS["canny"]


def test_a_detector_that_takes_a_seed_uses_the_generator_passed_in(monkeypatch) -> None:
    monkeypatch.setattr(detectors, "_entries", dict(detectors._entries))
    mq.register_detector("grain", lambda image, seed=None: Image.new("RGB", image.size, ((seed or 0) % 256, 0, 0)))
    detect, image = draw_named("grain"), Image.new("RGB", (4, 4))
    first, again, other = (detect(image, np.random.default_rng(seed)).getpixel((0, 0)) for seed in (1, 1, 2))
    assert first == again != other
    assert detect(image, None).getpixel((0, 0)) == (0, 0, 0)


def test_missing_weights_fail_on_opening(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MaquetteError, match="hed needs"):
        draw_named("hed")
