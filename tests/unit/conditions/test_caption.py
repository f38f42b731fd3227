"""Captions by BLIP on tiny random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.unit.conditions.tiny_models import DEVIATION, MEAN, write_tiny
from transformers import BertTokenizer, BlipForConditionalGeneration

import maquette as mq
from maquette.errors import MaquetteError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_tiny("caption", tmp_path_factory.mktemp("blip"))


@torch.no_grad()
@pytest.mark.parametrize("beams", [1, 3])
def test_says_what_transformers_says(folder, beams: int) -> None:
    image = mq.diorama.scene(3).image.resize((64, 64))
    pixels = torch.from_numpy((np.asarray(image) / 255 - MEAN) / DEVIATION).float().permute(2, 0, 1)[None]
    network = BlipForConditionalGeneration.from_pretrained(folder).eval()
    tokens = network.generate(pixel_values=pixels, num_beams=beams, max_new_tokens=12, do_sample=False)
    expected = BertTokenizer.from_pretrained(folder).decode(tokens[0], skip_special_tokens=True)
    assert len(expected) > 3
    assert mq.detect("caption", image, weights=folder, device="cpu", beams=beams, length=12) == expected


def test_a_batch_says_what_each_says_alone_and_again(folder) -> None:
    detector = mq.Detector("caption", folder, device="cpu")
    images = [mq.diorama.scene(seed).image.resize(size) for seed, size in enumerate(((64, 64), (97, 61), (2000, 10)))]
    together = detector(images)
    assert together == [detector(image) for image in images] == detector(images)


def test_length_is_kept(folder) -> None:
    caption = mq.detect("caption", mq.diorama.scene(3).image, weights=folder, device="cpu", length=4)
    assert len(caption.split()) <= 4


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"holds no vocabulary for caption; add tokenizer\.json"), ("{}", "no tokenizer"), ("[]", "no tokenizer")],
)
def test_a_folder_without_a_tokenizer_is_refused(folder, tmp_path, content: str | None, message: str) -> None:
    for file in folder.iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(MaquetteError, match=message):
        mq.Detector("caption", tmp_path, device="cpu")
