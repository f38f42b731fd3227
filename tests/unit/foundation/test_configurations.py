"""Configurations are checked before anything is built: one sentence with the file, the setting and the value."""

import io
import json
import math
import shutil
import time
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from tests.conftest import randomise, tiny_base

import maquette as mq
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.foundation.weights import open_weights
from maquette.sampling.metadata import KEY, Record, pack


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A base and a ControlNet."""
    folder, base = tmp_path_factory.mktemp("saved"), tiny_base("sd15")
    save_base(base, folder / "base")
    randomise(ControlNet.attach(base)).save(folder / "net")
    return folder


def changed(folder: Path, copy: Path, file: str, **values: object) -> Path:
    """A copy of a folder with other values in a JSON file."""
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    stated = {**json.loads((folder / file).read_text()), **values}
    (copy / file).write_text(json.dumps({key: value for key, value in stated.items() if value is not ...}))
    return copy


WRONG = [
    ("unet/config.json", {"layers_per_block": 10**9}),
    ("unet/config.json", {"layers_per_block": 600, "transformer_layers_per_block": 200}),
    ("unet/config.json", {"block_out_channels": "wide"}),
    ("unet/config.json", {"block_out_channels": [32, None]}),
    ("unet/config.json", {"norm_num_groups": 0}),
    ("unet/config.json", {"norm_num_groups": 7}),
    ("unet/config.json", {"down_block_types": ["NoBlock"]}),
    ("unet/config.json", {"cross_attention_dim": {}}),
    ("unet/config.json", {"anything": 10**30}),
    ("vae/config.json", {"scaling_factor": 0}),
    ("vae/config.json", {"latent_channels": "4"}),
    ("vae/config.json", {"layers_per_block": 10**8}),
    ("text_encoder/config.json", {"num_hidden_layers": 10**6}),
    ("text_encoder/config.json", {"num_attention_heads": 0}),
    ("text_encoder/config.json", {"hidden_act": "none"}),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**10}),
    ("scheduler/scheduler_config.json", {"beta_start": "0.1"}),
    ("scheduler/scheduler_config.json", {"beta_schedule": "unheard"}),
    ("scheduler/scheduler_config.json", {"timestep_spacing": 5}),
    ("model_index.json", {"_class_name": 7}),
    ("maquette.json", {"steps": True}),
    ("maquette.json", {"guidance": math.nan}),
    ("tokenizer/tokenizer_config.json", {"model_max_length": "long"}),
]


@pytest.mark.parametrize(("file", "values"), WRONG)
def test_a_base_with_a_wrong_value_is_refused_at_once(saved, file, values, tmp_path) -> None:
    start = time.monotonic()
    with pytest.raises(MaquetteError) as raised:
        mq.load_base(changed(saved / "base", tmp_path / "base", file, **values))
    assert str(tmp_path / "base") in str(raised.value)
    assert len(str(raised.value)) < 600
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("length", [10**12, 10**30, ...])
def test_the_text_encoder_says_how_many_tokens_it_takes(saved, length, tmp_path) -> None:
    """Whatever the tokenizer's settings say, or if they say nothing."""
    base = mq.load_base(
        changed(saved / "base", tmp_path / "base", "tokenizer/tokenizer_config.json", model_max_length=length)
    )
    expected = mq.load_base(saved / "base").encode_text(["a b"])
    assert torch.equal(base.encode_text(["a b"]).hidden_states, expected.hidden_states)


def test_a_tokenizer_of_another_model_is_named(saved, tmp_path) -> None:
    whole = json.loads((saved / "base" / "tokenizer" / "tokenizer.json").read_text())
    whole["model"]["vocab"]["a</w>"] = 5000
    base = mq.load_base(changed(saved / "base", tmp_path / "base", "tokenizer/tokenizer.json", model=whole["model"]))
    with pytest.raises(MaquetteError, match="names the token 5000, and the text encoder knows 54"):
        base.encode_text(["a"])


@pytest.mark.parametrize(
    "values",
    [
        {"block_out_channels": 5}, {"block_out_channels": "16"}, {"layers_per_block": 10**9},
        {"controlnet_conditioning_channel_order": "grb"}, {"global_pool_conditions": "no"},
        {"_maquette": {"encoder": ["release"]}}, {"_maquette": {"contract": [1]}}, {"_maquette": 3},
        {"_maquette": {"contract": {"condition_range": "all"}}},
        {"conditioning_embedding_out_channels": [0]}, {"rank": 10**9},
    ],
)  # fmt: skip
def test_a_controlnet_with_a_wrong_value_is_refused(saved, values, tmp_path) -> None:
    base = mq.load_base(saved / "base")
    with pytest.raises(MaquetteError) as raised:
        mq.load_controlnet(changed(saved / "net", tmp_path / "net", "config.json", **values), base)
    assert len(str(raised.value)) < 600


def test_packed_archives_are_refused_before_they_are_unpacked(tmp_path) -> None:
    content = io.BytesIO()
    torch.save({"a": torch.zeros(2**20)}, content)
    with zipfile.ZipFile(content) as whole, zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    with pytest.raises(MaquetteError, match="is packed and would take 4,1"):
        open_weights(tmp_path / "a.pth")


@pytest.mark.parametrize(
    "tensor", [torch.ones(1).expand(10**6), torch.ones(3, dtype=torch.complex64), torch.ones(1).expand(10**9, 10**9)]
)
def test_tensors_that_are_repeated_or_complex_are_refused(tensor, tmp_path) -> None:
    torch.save({"odd": tensor}, tmp_path / "a.pth")
    with pytest.raises(MaquetteError, match="complex, repeated"):
        open_weights(tmp_path / "a.pth")


def test_views_are_plain(tmp_path) -> None:
    whole = torch.randn(6, 4)
    torch.save({"part": whole[1:3], "turned": whole.T}, tmp_path / "a.pth")
    weights = open_weights(tmp_path / "a.pth")
    assert torch.equal(weights["turned"], whole.T)
    save_file({"w": whole}, tmp_path / "a.safetensors")
    assert torch.equal(open_weights(tmp_path / "a.safetensors")["w"], whole)


def with_record(path: Path, **changes: object) -> Path:
    map_ = pack(Image.new("RGB", (64, 64)))
    settings = {"steps": 2, "guidance": 9.0, "sampler": "ddim", "seed": 4, "count": 3, "size": [64, 64]}
    values = {
        "base": "diorama", "prompt": "a", "dtype": "float32", "settings": settings, "number": 1,
        "controls": [{"controlnet": "diorama/canny", "map": map_}],
    }  # fmt: skip
    for name, value in changes.items():
        (settings if name in {*settings, "batch"} else values)[name] = value
    info = PngImagePlugin.PngInfo()
    info.add_text(KEY, json.dumps(values))
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def test_a_record_of_many_images_makes_one(tmp_path) -> None:
    record = Record.load(with_record(tmp_path / "a.png", count=10**9, number=10**8))
    assert (record.settings["count"], record.settings["seed"], record.number) == (1, 4 + 10**8, 0)
    largest = Record.load(with_record(tmp_path / "a.png", seed=2**63 - 2))
    assert largest.settings["seed"] == 2**63 - 1


@pytest.mark.parametrize(
    "values",
    [
        {"count": "3"}, {"count": 0}, {"number": -1}, {"number": 3}, {"size": [64, 10**9]}, {"size": "64x64"},
        {"steps": 10**9}, {"steps": [2]}, {"guidance": math.nan}, {"seed": -1}, {"seed": 10**40}, {"batch": 1},
        {"base": 5}, {"prompt": "\ud83d"}, {"prompt": None}, {"controls": {}}, {"controls": [5]},
        {"controls": [{"controlnet": "a", "map": "%"}]}, {"controls": [{"controlnet": "a", "map": "AAAA"}]},
        {"controls": [{"controlnet": "a"}]}, {"settings": []}, {"surplus": 1}, {"dtype": ["float32"]},
        {"unrecorded": 5}, {"image": 7},
    ],
)  # fmt: skip
def test_records_with_wrong_values(values, tmp_path) -> None:
    with pytest.raises(MaquetteError, match="does not say how it was made") as raised:
        Record.load(with_record(tmp_path / "a.png", **values))
    assert len(str(raised.value)) < 900
