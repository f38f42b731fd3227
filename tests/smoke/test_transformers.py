"""Transformers by the command line: trained by flow matching, resumed bitwise, described and used."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.own_pairs import weights
from tests.tiny_flux import tiny_flux
from tests.tiny_qwen import tiny_qwen
from tests.tiny_sd3 import tiny_sd3
from tests.tiny_zimage import tiny_zimage

import maquette as mq
from maquette.base import Base
from maquette.checkpoints.save import save_base
from maquette.diorama import dataset

TRAINING = (
    "--scenes", 8, "--batch-size", 2, "--evaluate-every", 0, "--checkpoint-every", 2, "--precision", "float32",
    "--learning-rate", 1e-3, "--warmup", 1, "--workers", 0, "--cache-folder", "cache", "--device", "cpu",
)  # fmt: skip


@dataclass(frozen=True)
class Family:
    make: Callable[..., Base]
    blocks: int
    copied: str  # a weight of the last block that is copied
    told: str
    short: str


FAMILIES = {
    "sd3": Family(
        tiny_sd3, 3, "transformer_blocks.2.ff.net.2.weight", "Stable Diffusion 3, text 40 wide", "Stable Diffusion 3"
    ),
    "flux": Family(tiny_flux, 4, "single_transformer_blocks.0.proj_out.weight", "Flux.1, text 40 wide", "Flux"),
    "qwen": Family(tiny_qwen, 3, "transformer_blocks.2.img_mlp.net.2.weight", "Qwen-Image, text 40 wide", "Qwen-Image"),
    "zimage": Family(
        tiny_zimage, 3, "control_layers.2.feed_forward.w2.weight", "Z-Image, condition of 4 channels", "Z-Image"
    ),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def base(family, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base(family.make(context=96), folder)
    return folder


def test_trained_resumed_described_and_used(maquette, family, base, image, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "SHARD", 8)

    def train(output: str, steps: int, *more: object) -> None:
        code, _, err = maquette(
            "train", "diorama/canny", "--base", base, "--output", output, "--max-steps", steps, *TRAINING, *more
        )
        assert code == 0, err

    train("whole", 4, "--blocks", family.blocks)
    train("parts", 2, "--blocks", family.blocks)
    train("parts", 4, "--blocks", family.blocks, "--resume")
    whole, parts = weights(Path("whole")), weights(Path("parts"))
    assert whole["zero_convs.0.weight"].any()
    assert f"trainable_copy.{family.copied}" in whole
    assert all(torch.equal(whole[name], parts[name]) for name in whole)

    code, told, _ = maquette("info", "whole")
    assert code == 0
    assert family.told in told
    assert "diorama/canny" in told
    options = ("--base", base, "--controlnet", "whole", "--steps", 2, "--size", "64x64", "--device", "cpu")
    code, _, err = maquette("generate", image, *options, "--condition", "canny", "-o", "made.png")
    assert code == 0, err
    assert Path("made.png").exists()
    code, _, err = maquette(
        "generate", image, *options[:-4], "--size", "64x72", "-o", "again.png", "--condition", "canny"
    )
    assert code != 0
    assert "multiples of 16" in err


def test_a_wrong_pair_is_one_sentence(maquette, family, base, image) -> None:
    options = ("--condition", "canny", "--steps", 1, "--device", "cpu", "-o", "x.png")
    code, _, err = maquette("generate", image, "--base", base, "--controlnet", "diorama/canny", *options)
    assert code != 0
    assert f"holds no ControlNet for {family.short}" in err
    mq.ControlNet.attach(mq.load_base(base)).save("net")
    code, _, err = maquette("generate", image, "--controlnet", "net", *options)
    assert code != 0
    assert f"is made for {family.short}, a transformer" in err
