"""Stable Diffusion 3 in single files, under Stability AI's names, is the same as in diffusers' folders."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.loaders.single_file_utils import convert_sd3_transformer_checkpoint_to_diffusers
from safetensors.torch import load_file, save_file
from tests.tiny_sd3 import MEDIUM, PROJECTIONS, original_control, originals, published, tiny_t5, tiny_transformer
from tests.unit.checkpoints.test_original import changed
from tests.unit.formats.test_names import original_vae
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

import maquette as mq
from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.base import Base, Defaults
from maquette.checkpoints.convert import convert
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats import vae_names
from maquette.text.clip import Clip
from maquette.text.sd3 import SD3Text

WIDTH, CONTEXT = 192, 8  # of the text, as wide as both CLIPs; tokens that these read
HEADS = {"attention_head_dim": 64, "num_attention_heads": 1, "caption_projection_dim": 64}  # as published, but one
PREFIX = "model.diffusion_model."
ALONE = {
    "joint_attention_dim": None, "use_pos_embed": False, "pos_embed_type": None, "qk_norm": None,
    "force_zeros_for_pooled_projection": False,
}  # fmt: skip
"""A ControlNet with blocks of the image alone."""


def clip(width: int, projection: int, act: str, **pad: str) -> Clip:
    """With heads of 64, as published. "!" is a token, which pads the second's prompts."""
    words = ["!", *(chr(number) + "</w>" for number in range(97, 123)), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    config = CLIPTextConfig(
        vocab_size=29, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=width // 64,
        max_position_embeddings=CONTEXT, hidden_act=act, bos_token_id=27, eos_token_id=28, pad_token_id=28,
        projection_dim=projection,
    )  # fmt: skip
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CONTEXT, **pad)
    return Clip(CLIPTextModelWithProjection(config).eval(), tokenizer)


def model(t5: bool = True, **more) -> Base:
    """A small base with the settings that shapes cannot tell as published."""
    transformer = tiny_transformer(joint_attention_dim=WIDTH, **HEADS, **more)
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), down_block_types=["DownEncoderBlock2D"] * 4, layers_per_block=2,
        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609,
        use_quant_conv=False, use_post_quant_conv=False,
    ).eval()  # fmt: skip
    first, second = clip(64, PROJECTIONS[0], "quick_gelu"), clip(128, PROJECTIONS[1], "gelu", pad_token="!")
    text = SD3Text(first, second, WIDTH, tiny_t5(WIDTH) if t5 else None, blank=0 if t5 else 256)
    schedule = {**FlowMatchEulerDiscreteScheduler(shift=3.0).config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    return Base("model", SD3Backbone(transformer), vae, text, schedule, 128, Defaults(28, 7.0, "euler"))


def written(base: Base, path: Path, text: bool = True) -> Path:
    """A base in one file, under the names of Stability AI."""
    vae = base.autoencoder.state_dict()
    stored = {PREFIX + name: value for name, value in originals(base.backbone.network.state_dict()).items()}
    for name, shape in original_vae(vae).items():
        stored[f"first_stage_model.{name}"] = vae[vae_names.to_diffusers(name, 4)].reshape(shape)
    if text:
        encoders = {"clip_l": base.text.text_encoders[0].encoder, "clip_g": base.text.text_encoders[1].encoder}
        if base.text.t5:
            encoders["t5xxl"] = base.text.t5.encoder
        for name, encoder in encoders.items():
            state = encoder.state_dict()
            stored |= {f"text_encoders.{name}.transformer.{key}": value for key, value in state.items()}
    save_file({name: value.clone().contiguous() for name, value in stored.items()}, path)
    return path


def drawn(base: Base) -> torch.Tensor:
    """Two pictures (2, 96, 64, 3), 0 to 255: text, transformer and autoencoder take part in them."""
    images = mq.generate(base, "a b", steps=2, guidance=5.0, seed=3, count=2, size=(64, 96))
    return torch.stack([torch.from_numpy(np.array(image)) for image in images])


@pytest.mark.parametrize("form", [{}, MEDIUM, {"qk_norm": "rms_norm"}], ids=["3", "3.5 medium", "3.5 large"])
def test_the_original_names_are_those_that_diffusers_reads(form) -> None:
    with torch.device("meta"):
        expected = SD3Transformer2DModel(num_layers=3, **form).state_dict()
    values = {name: torch.randn(value.shape[:1]) for name, value in expected.items()}  # that stand for whole rows
    again = convert_sd3_transformer_checkpoint_to_diffusers(originals(values))
    assert again.keys() == values.keys()
    assert all(torch.equal(again[name], value) for name, value in values.items())


@pytest.mark.parametrize("form", [{}, MEDIUM, {"qk_norm": "rms_norm"}], ids=["3", "3.5 medium", "3.5 large"])
def test_a_whole_model_draws_the_same(form, tmp_path) -> None:
    base = model(**form)
    save_base(base, tmp_path / "folder")
    loaded = mq.load_base(written(base, tmp_path / "whole.safetensors"), tokenizer=tmp_path / "folder")
    expected = base.backbone.network.state_dict()
    assert loaded.backbone.network.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.backbone.network.state_dict().items())
    assert torch.equal(drawn(loaded), drawn(base))
    assert loaded.defaults == mq.load_base(tmp_path / "folder").defaults
    assert "Stable Diffusion 3, text 192 wide" in info(tmp_path / "whole.safetensors")


def test_a_model_without_t5_warns_and_draws_as_a_folder_that_left_it_out(tmp_path) -> None:
    base = model(t5=False)
    save_base(base, tmp_path / "folder")
    path = written(base, tmp_path / "whole.safetensors")
    with pytest.warns(MaquetteWarning, match=r"whole.safetensors' holds no T5; .* prompts are read by CLIP alone"):
        loaded = mq.load_base(path, tokenizer=tmp_path / "folder")
    assert torch.equal(drawn(loaded), drawn(base))


def test_t5_without_its_tokenizer_is_left_out(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    base = model()
    base.text.text_encoders[0].tokenizer.save_pretrained(tmp_path / "clip")
    path = written(base, tmp_path / "whole.safetensors")
    with pytest.warns(MaquetteWarning, match=r"holds T5 without its tokenizer, and 'google/t5-v1_1-xxl' could not be"):
        loaded = mq.load_base(path, tokenizer=tmp_path / "clip")
    assert loaded.text.t5 is None
    assert loaded.text.blank == 256


def test_a_model_without_text_encoders_lacks_them(tmp_path) -> None:
    loaded = mq.load_base(written(model(), tmp_path / "whole.safetensors", text=False))
    with pytest.raises(MaquetteError, match="came without a text encoder"):
        mq.generate(loaded, "a", steps=1, size=(64, 64))


def test_a_transformer_in_a_folder_under_its_original_names(tmp_path) -> None:
    base = model()
    save_base(base, tmp_path)
    (path,) = (tmp_path / "transformer").glob("*.safetensors")
    save_file({name: value.contiguous() for name, value in originals(base.backbone.network.state_dict()).items()}, path)
    assert torch.equal(drawn(mq.load_base(tmp_path)), drawn(base))


def test_what_belongs_to_no_stable_diffusion_3(tmp_path) -> None:
    base, path = model(), tmp_path / "a.safetensors"
    stored = {
        PREFIX + name: value.contiguous() for name, value in originals(base.backbone.network.state_dict()).items()
    }
    save_file({**stored, PREFIX + "more": torch.ones(2)}, path)
    with pytest.raises(MaquetteError, match=r"'more' in .* is no part of a Stable Diffusion 3; fetch it anew"):
        mq.load_base(path)
    name = "joint_blocks.1.x_block.attn.qkv.weight"
    save_file({**stored, PREFIX + name: torch.ones(100, 64)}, path)
    with pytest.raises(MaquetteError, match=f"'{name}' in .* holds no queries, keys and values of width 64"):
        mq.load_base(path)
    save_file(stored, path)
    with pytest.raises(MaquetteError, match="predicts flow, not 'epsilon'"):
        mq.load_base(path, prediction="epsilon")


def test_a_tensor_that_is_missing_or_of_another_shape_is_said(tmp_path) -> None:
    base, path = model(), tmp_path / "whole.safetensors"
    save_base(base, tmp_path / "folder")
    tensors = load_file(written(base, path))
    refused = 0
    for seed in range(20):
        what, others = changed(tensors, seed)
        save_file({name: value.contiguous() for name, value in others.items()}, path)
        try:
            mq.load_base(path, tokenizer=tmp_path / "folder")
        except MaquetteError:
            refused += 1
        except Exception as error:
            raise AssertionError(what) from error
    assert refused > 10


def test_a_net_of_3_5_large_under_its_own_names(tmp_path) -> None:
    """Without its config.json: everything follows from its tensors."""
    base, path = model(qk_norm="rms_norm"), tmp_path / "net.safetensors"
    theirs = published(base, 2, **ALONE)
    stored = theirs.state_dict()
    save_file({name: value.contiguous() for name, value in original_control(stored).items()}, path)
    net = mq.load_controlnet(path, base)
    assert net.published().keys() == stored.keys()
    assert all(torch.equal(net.published()[name], value) for name, value in stored.items())
    assert not net.control.design.zero_pooled
    assert "Stable Diffusion 3, no text" in info(path)
    convert(path, tmp_path / "folder", "diffusers")
    again = SD3ControlNetModel.from_pretrained(tmp_path / "folder")
    assert all(torch.equal(value, stored[name]) for name, value in again.state_dict().items())
    assert (again.config.attention_head_dim, again.config.force_zeros_for_pooled_projection) == (64, False)


@pytest.mark.parametrize("kind", ["blur", "canny", "depth"])
def test_maps_of_a_net_of_3_5_large_are_encoded_as_published(kind, tmp_path) -> None:
    base, path = model(qk_norm="rms_norm"), tmp_path / "net.safetensors"
    state = original_control(published(base, 2, **ALONE).state_dict())
    number = {"blur": 0, "canny": 1, "depth": 2}[kind]
    save_file(
        {**{name: value.contiguous() for name, value in state.items()}, "control_type": torch.tensor(number)}, path
    )
    net, maps = mq.load_controlnet(path, base), torch.rand(1, 3, 64, 64)
    plain = VaeImageProcessor(do_normalize=False).preprocess(maps)
    given = {"blur": 2 * plain - 1, "canny": plain * 255 * 0.5 + 0.5, "depth": 2 * (1 - plain) - 1}[kind]
    vae = base.autoencoder
    with torch.no_grad():
        expected = (vae.encode(given).latent_dist.mean - vae.config.shift_factor) * vae.config.scaling_factor
        assert torch.allclose(net.condition_input(maps, base.encode_maps), expected, atol=1e-5)
        net.save(tmp_path / "saved")
        convert(path, tmp_path / "converted", "diffusers")
        for folder in ("saved", "converted"):
            again = mq.load_controlnet(tmp_path / folder, base)
            assert torch.allclose(again.condition_input(maps, base.encode_maps), expected, atol=1e-5)
    assert ("encoded range" in info(path)) == (kind != "blur")
    save_file({**load_file(path), "control_type": torch.tensor(1e30)}, path)
    assert mq.load_controlnet(path, base).contract.encoded_range is None, "an unknown number says nothing"
