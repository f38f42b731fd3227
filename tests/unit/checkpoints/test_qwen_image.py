"""Qwen-Image's files, new ControlNets on it, its text, and what is wrong in one sentence."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import QwenImageControlNetModel
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.tiny_qwen import published, tiny_qwen, tiny_transformer

import maquette as mq
from maquette.backbones.transformers.qwen import QwenBackbone
from maquette.checkpoints.controlnets import read_controlnet
from maquette.checkpoints.convert import convert, transfer
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.text.conditioning import Conditioning
from maquette.training.config import TrainingConfig
from maquette.training.setup import open_networks

WIDE = {"attention_head_dim": 128, "num_attention_heads": 1, "axes_dims_rope": (16, 56, 56)}  # heads as published


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("base")
    save_base(tiny_qwen(), path)
    return path


def edited(folder: Path, part: str, **changes) -> Path:
    """A part's config.json with other values; the other files are as they were."""
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_a_transformer_with_the_prefix_of_whole_files(folder, tmp_path) -> None:
    base = tiny_qwen()
    save_base(base, tmp_path)
    (path,) = (tmp_path / "transformer").glob("*.safetensors")
    stored = load_file(path)
    save_file({f"model.diffusion_model.{name}": value for name, value in stored.items()}, path)
    loaded = mq.load_base(tmp_path).backbone.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in base.backbone.network.state_dict().items())
    assert "Qwen-Image, text 40 wide" in info(path)
    assert "4 × 32" in info(tmp_path)
    with pytest.raises(MaquetteError, match="holds Qwen-Image's transformer alone"):
        mq.load_base(path)


def test_a_file_without_config_tells_all(tmp_path) -> None:
    """Also to diffusers, once converted; a net that paints in too."""
    base = tiny_qwen(**WIDE)
    theirs = published(base.backbone.network, 2, extra_condition_channels=4)
    path = tmp_path / "net.safetensors"
    save_file(theirs.state_dict(), path)
    net = mq.load_controlnet(path, base)
    assert net.control.paints == "only"
    assert net.control.wiring == ((0, 1), (2, 3))
    convert(path, tmp_path / "folder", "diffusers")
    again, report = QwenImageControlNetModel.from_pretrained(tmp_path / "folder", output_loading_info=True)
    assert not report["missing_keys"]
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in again.state_dict().items())
    assert list(again.config.axes_dims_rope) == list(theirs.config.axes_dims_rope)
    assert "Qwen-Image, text 40 wide, paints in" in info(path)
    save_file(published(tiny_transformer(), 1).state_dict(), path)
    with pytest.raises(MaquetteError, match="does not follow from its tensors"):
        convert(path, tmp_path / "other", "diffusers")


def test_a_new_net_copies_every_embedder_and_leaves_the_base_as_it_was() -> None:
    """The text's norm as well, which diffusers leaves at one."""
    base = tiny_qwen(blocks=7)
    before = json.dumps(dict(base.backbone.network.config), default=str)
    net, network = mq.ControlNet.attach(base), base.backbone.network.state_dict()
    copied = net.trainable_copy.state_dict()
    for part in ("img_in.", "txt_in.", "txt_norm.", "time_text_embed.", "transformer_blocks.4."):
        assert any(name.startswith(part) for name in copied)
    assert not any(name.startswith("transformer_blocks.5.") for name in copied)
    assert all(torch.equal(value, network[name]) for name, value in copied.items())
    assert json.dumps(dict(base.backbone.network.config), default=str) == before
    theirs = QwenImageControlNetModel.from_transformer(
        base.backbone.network, num_layers=2, attention_head_dim=16, num_attention_heads=2
    )
    assert not torch.equal(theirs.txt_norm.weight, network["txt_norm.weight"])


def test_transferred_to_another_base_only_copied_weights_change(folder, tmp_path) -> None:
    old, new = tiny_qwen(), tiny_qwen(seed=1)
    save_base(new, tmp_path / "new")
    net = published(old.backbone.network, 2)
    net.save_pretrained(tmp_path / "net")
    transfer(tmp_path / "net", folder, tmp_path / "new", tmp_path / "moved")
    moved, was = mq.load_controlnet(tmp_path / "moved", new).published(), net.state_dict()
    assert torch.equal(moved["controlnet_blocks.0.weight"], was["controlnet_blocks.0.weight"])
    name = "transformer_blocks.0.attn.to_q.weight"
    change = new.backbone.network.state_dict()[name] - old.backbone.network.state_dict()[name]
    assert torch.allclose(moved[name], was[name] + change, atol=1e-5)


def test_text_is_padded_and_cut() -> None:
    """To the longest of a batch; of more than it reads the rest is named."""
    base, prompts = tiny_qwen(), ["b", "a red house", "b"]
    text = base.encode_text(prompts)
    assert text.mask is not None
    assert torch.equal(text.hidden_states[0], text.hidden_states[2])
    for row, prompt in enumerate(prompts):
        alone = base.encode_text([prompt])
        assert alone.mask is None
        assert torch.equal(text[row].hidden_states, alone.hidden_states[0])
        assert not text.hidden_states[row, alone.hidden_states.shape[1] :].any()
    again = Conditioning.cat([base.encode_text([prompt]) for prompt in prompts])
    assert torch.equal(again.hidden_states, text.hidden_states)
    assert torch.equal(again.mask, text.mask)
    assert not text.is_all(base.encode_text(["b"]))
    assert text[:1].is_all(base.encode_text(["b"]))
    with pytest.warns(MaquetteWarning, match=r"takes 512; cut off: 'bbbbb'"):
        long = base.encode_text(["a" * 512 + "b" * 5])
    assert long.hidden_states.shape[1] == 512


def test_a_picture_to_paint_in() -> None:
    picture = Image.new("RGB", (32, 16), (255, 0, 51))
    mask = Image.new("L", (32, 16))
    mask.paste(255, (8, 0, 32, 16))
    made = mq.to_paint(picture, mask)
    assert made.shape == (1, 3, 16, 32)
    assert (made[..., 8:] == -1).all()
    assert made[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])
    both = mq.to_paint(picture, mask, map=picture)
    assert torch.equal(both[:, 3:], made)
    assert both[0, :, 0, 20].tolist() == pytest.approx([1, 0, 0.2, -1, -1, -1])
    with pytest.raises(MaquetteError, match="its map are of one size"):
        mq.to_paint(picture, mask, map=picture.resize((16, 16)))
    with pytest.raises(MaquetteError, match="are of one size, not 32×16 and 16×16"):
        mq.to_paint(picture, mask.crop((0, 0, 16, 16)))


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path) -> None:
    network = tiny_transformer()
    backbone = QwenBackbone(network)
    with pytest.raises(MaquetteError, match="holds no ControlNet for Qwen-Image"):
        mq.load_controlnet("diorama/canny", tiny_qwen())
    published(network, 1).save_pretrained(tmp_path / "net")
    with pytest.raises(MaquetteError, match="is made for Qwen-Image, a transformer"):
        mq.load_controlnet(tmp_path / "net", mq.load_base("diorama", device="cpu"))
    with pytest.raises(MaquetteError, match="is made for another Qwen-Image"):
        read_controlnet(tmp_path / "net", QwenBackbone(tiny_transformer(num_attention_heads=1)))
    with pytest.raises(MaquetteError, match="1 or more blocks"):
        backbone.control({"num_layers": 0})
    with pytest.raises(MaquetteError, match="with a mask of 4 channels"):
        backbone.control({"num_layers": 1, "extra_condition_channels": 64})
    with pytest.raises(MaquetteError, match="zero_cond_t"):
        QwenBackbone(tiny_transformer(1, zero_cond_t=True))
    with pytest.raises(MaquetteError, match="multiples of 16 pixels, not 24×16"):
        backbone.prepare(torch.zeros(1, 4, 2, 3), 1, tiny_qwen().encode_text(["a"]))
    for mark, kind in (("controlnet_blocks.0.y_rms.weight", "DiffSynth's"), ("control_img_in.weight", "VideoX-Fun's")):
        save_file({mark: torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(MaquetteError, match=f"is one of {kind}.* which are not read"):
            read_controlnet(tmp_path / "other.safetensors", backbone)


def test_a_net_that_paints_in_is_not_trained(folder, tmp_path) -> None:
    base = tiny_qwen()
    published(base.backbone.network, 1, extra_condition_channels=4).save_pretrained(tmp_path)
    config = TrainingConfig(condition="canny", data="x", output=tmp_path / "run", start_from=str(tmp_path))
    with pytest.raises(MaquetteError, match="paints in, and training knows no masks"):
        open_networks(config, base, "cpu")


def test_parts_that_do_not_fit_one_another(tmp_path) -> None:
    base = tiny_qwen()
    save_base(base, tmp_path)
    with pytest.raises(MaquetteError, match="4 channels of latents, and states 3 means and 4 deviations"):
        mq.load_base(edited(tmp_path, "vae", latents_mean=[0.0, 0.0, 0.0]))
    edited(tmp_path, "vae", latents_mean=[0.0] * 4)
    schedule = tmp_path / "scheduler" / "scheduler_config.json"
    kept = schedule.read_text()
    schedule.write_text(json.dumps({"_class_name": "DDIMScheduler"}))
    with pytest.raises(MaquetteError, match="its scheduler is a DDIMScheduler"):
        mq.load_base(tmp_path)
    schedule.write_text(kept)
    for file in (tmp_path / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(MaquetteError, match=r"tokenizer of the base .* cannot be read"):
        mq.load_base(tmp_path)
