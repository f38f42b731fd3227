"""Loading a base from a folder, and the error for each way in which it can be incomplete or broken."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import tiny_base

import maquette as mq
from maquette.base import Base, Defaults
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_base(tiny_base("sd15"), folder)
    return folder


def test_a_folder_is_read_as_it_was_saved(folder) -> None:
    base, before = mq.load_base(folder), tiny_base("sd15")
    assert (base.device.type, base.dtype, base.size) == ("cpu", torch.float32, 128)
    assert base.noise.prediction == "epsilon"
    z, text = torch.randn(1, 4, 16, 16), before.encode_text(["a b"])
    assert torch.equal(base.encode_text(["a b"]).hidden_states, text.hidden_states)
    assert torch.equal(base.predict(z, 7, text), before.predict(z, 7, text))
    assert not any(parameter.requires_grad for parameter in base.backbone.network.parameters())


def test_parts_that_do_not_belong_together(folder, tmp_path) -> None:
    shutil.copytree(folder, tmp_path / "base")
    for file, change, message in (
        ("model_index.json", None, "model_index.json|cannot be read"),
        ("scheduler/scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "schedule of a EDMEulerScheduler"),
        ("unet/config.json", {"sample_size": None}, "does not say its sample_size"),
    ):
        path = tmp_path / "base" / file
        before = path.read_text()
        path.write_text("{" if change is None else json.dumps({**json.loads(before), **change}))
        with pytest.raises(MaquetteError, match=message):
            mq.load_base(tmp_path / "base")
        path.write_text(before)
    with pytest.raises(MaquetteError, match="says that it predicts"):
        mq.load_base(folder, prediction="v_prediction")
    narrow, wide = tiny_base("sd15"), tiny_base("sd21")
    with pytest.raises(MaquetteError, match=r"The text encoder of the base 'mixed' is \d+ wide"):
        Base("mixed", narrow.backbone, narrow.autoencoder, wide.text, narrow.scheduler_config, 128)


def test_recommended_settings_are_saved_in_the_folder(folder, tmp_path) -> None:
    base = tiny_base("sd15")
    assert mq.load_base(folder).defaults == base.defaults == Defaults(20, 9.0, "ddim")
    base.defaults = Defaults(7, 3.5, "euler")
    save_base(base, tmp_path)
    assert mq.load_base(tmp_path).defaults == base.defaults
    (tmp_path / "maquette.json").write_text('{"guidance": 2}')
    assert mq.load_base(tmp_path).defaults == Defaults(20, 2, "ddim")
    (tmp_path / "maquette.json").unlink()  # as diffusers writes it
    assert mq.load_base(tmp_path).defaults == Defaults()
    for wrong in ("{", "[1]", '{"stepps": 3}', '{"steps": "20"}', '{"sampler": null}'):
        (tmp_path / "maquette.json").write_text(wrong)
        with pytest.raises(MaquetteError, match=r"maquette\.json of the base in .* cannot be read"):
            mq.load_base(tmp_path)


def test_low_memory_on_the_cpu_moves_no_weights_and_decodes_in_bands(folder) -> None:
    base = mq.load_base(folder, low_memory=True)
    assert base.execution_device is None
    assert base.low_memory
    assert not mq.load_base(folder).low_memory


@pytest.mark.parametrize("dtype", ["bfloat16", torch.bfloat16])
def test_precision_can_be_chosen(folder, dtype) -> None:
    base = mq.load_base(folder, dtype=dtype)
    assert base.dtype == torch.bfloat16
    assert mq.ControlNet.attach(base).dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(folder, tmp_path, part) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    shutil.rmtree(broken / part)
    with pytest.raises(MaquetteError, match=f"has no folder '{part}'"):
        mq.load_base(broken)


@pytest.mark.parametrize("part", ["vae", "unet", "text_encoder"])
def test_weights_that_are_cut_off_are_named(folder, tmp_path, part) -> None:
    broken = shutil.copytree(folder, tmp_path / "broken")
    weights = next((broken / part).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MaquetteError, match=rf"broken/{part}/.* is cut off or broken"):
        mq.load_base(broken)


def test_settings_that_do_not_exist(folder) -> None:
    with pytest.raises(MaquetteError, match="no dtype 'float8'"):
        mq.load_base(folder, dtype="float8")
    with pytest.raises(MaquetteError, match="There is no device 'cdua' here"):
        mq.load_base(folder, device="cdua")
    with pytest.raises(MaquetteError, match="There is no base 'nowhere'"):
        mq.load_base("nowhere")


def test_an_xl_is_read_as_it_was_saved(tmp_path) -> None:
    before = tiny_base("sdxl")
    save_base(before, tmp_path)
    base = mq.load_base(tmp_path)
    assert base.text.zero_empty_prompt
    for text, expected in zip(
        (base.encode_text(["a b"]), base.encode_negative("")),
        (before.encode_text(["a b"]), before.encode_negative("")),
        strict=True,
    ):
        for name, value in text.tensors().items():
            assert torch.allclose(value, expected.tensors()[name], atol=1e-6)
    assert not base.encode_negative("").hidden_states.any()
    shutil.rmtree(tmp_path / "text_encoder_2")
    with pytest.raises(MaquetteError, match="has no folder 'text_encoder_2'"):
        mq.load_base(tmp_path)


def test_a_folder_of_the_fp16_variant_alone(tmp_path) -> None:
    before = tiny_base("sd15")
    save_base(before, tmp_path)
    for part in ("vae", "unet", "text_encoder"):
        for path in (tmp_path / part).glob("*.safetensors"):
            path.rename(path.with_suffix(".fp16.safetensors"))
    base = mq.load_base(tmp_path)
    z, text = torch.randn(1, 4, 16, 16), before.encode_text(["a b"])
    assert torch.equal(base.predict(z, 7, text), before.predict(z, 7, text))
