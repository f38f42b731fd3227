"""What `mq.save` writes can be read again, and damage to it is noticed."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import maquette as mq
from maquette.errors import MaquetteError
from maquette.sampling.metadata import KEY, ControlRecord, Record, image_hash, pack


def generated(side: int = 16, noise: int = 16) -> Image.Image:
    """An image with the record of a map of noise, of so many pixels a side."""
    rng = np.random.default_rng(0)
    image, map_ = (Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)) for n in (side, noise))
    control = ControlRecord("net", pack(map_), map_hash=image_hash(map_))
    settings = {"seed": 1, "count": 1, "size": [side, side]}
    image.info[KEY] = Record("base", "a house", "float32", settings, [control], pixels=image_hash(image)).to_json()
    return image


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.webp"])
def test_a_record_is_read_back(name, tmp_path) -> None:
    image = generated()
    mq.save(image, tmp_path / name)
    assert Record.load(tmp_path / name).to_json() == image.info[KEY]
    assert (tmp_path / f"{name}.json").exists() == (name != "out.png")


def test_a_record_too_long_for_a_png_is_kept_beside_it(tmp_path, monkeypatch) -> None:
    """Pillow reads at most 64 MiB of text, which a map of 4096 × 4096 pixels of noise exceeds; here 64 KiB."""
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 2**16)
    image = generated(noise=256)
    mq.save(image, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as found:
        assert image_hash(found) == image_hash(image)
    assert Record.load(tmp_path / "out.png").to_json() == image.info[KEY]


def test_a_changed_record_is_refused(tmp_path) -> None:
    mq.save(generated(), tmp_path / "out.jpg")
    beside = tmp_path / "out.jpg.json"
    beside.write_text(beside.read_text().replace("a house", "a mouse"))
    with pytest.raises(MaquetteError, match="does not say how it was made"):
        Record.load(tmp_path / "out.jpg")


def test_a_record_without_a_checksum_is_read(tmp_path) -> None:
    """As versions up to 0.2 wrote it."""
    image = generated()
    mq.save(image, tmp_path / "out.jpg")
    (tmp_path / "out.jpg.json").write_text(image.info[KEY])
    assert Record.load(tmp_path / "out.jpg").prompt == "a house"
