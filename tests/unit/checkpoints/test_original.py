"""A model in one file of the original layout computes the same as in a folder of diffusers' format."""

import random
import re
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tests.conftest import randomise
from tests.unit.formats.test_names import original_vae
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

import maquette as mq
from maquette.backbones.unet import UNetBackbone
from maquette.base import Base
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.controlnet.save import WEIGHTS
from maquette.errors import MaquetteError
from maquette.formats import control, unet_names, vae_names
from maquette.formats.write import write_weights
from maquette.foundation.weights import open_weights
from maquette.text.clip import Clip, ClipText, XLText

CONTEXT = 8


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """A folder; as in the published tokenizer, "!" is the first token."""
    tokens = ["!", *(chr(number) + "</w>" for number in range(97, 123)), "<|startoftext|>", "<|endoftext|>"]
    folder = tmp_path_factory.mktemp("tokenizer")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=CONTEXT).save_pretrained(folder)
    return folder


def text_encoder(kind, width: int, act: str, **more: int):
    config = CLIPTextConfig(
        vocab_size=29, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=width // 64,
        max_position_embeddings=CONTEXT, hidden_act=act, bos_token_id=27, eos_token_id=28, pad_token_id=28, **more,
    )  # fmt: skip
    return kind(config).eval()


def model(family: str, tokenizer: Path) -> Base:
    """A small base of a family, with its published configuration where shapes cannot tell."""
    torch.manual_seed(0)
    common = {"sample_size": 16, "layers_per_block": 2}
    if family == "xl":
        unet = UNet2DConditionModel(
            **common, block_out_channels=(64, 64, 64), attention_head_dim=(1, 1, 1), use_linear_projection=True,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 1), cross_attention_dim=192, addition_embed_type="text_time",
            addition_time_embed_dim=8, projection_class_embeddings_input_dim=6 * 8 + 24,
        )  # fmt: skip
        encoders = [
            text_encoder(CLIPTextModel, 64, "quick_gelu"),
            text_encoder(CLIPTextModelWithProjection, 128, "gelu", projection_dim=24),
        ]
    elif family == "sd2":
        unet = UNet2DConditionModel(
            **common, block_out_channels=(64, 64, 64, 64), attention_head_dim=(1, 1, 1, 1), use_linear_projection=True,
            cross_attention_dim=64, upcast_attention=True,
        )  # fmt: skip
        encoders = [text_encoder(CLIPTextModel, 64, "gelu")]
    else:
        unet = UNet2DConditionModel(**common, block_out_channels=(32, 64, 64, 64), cross_attention_dim=64)
        encoders = [text_encoder(CLIPTextModel, 64, "quick_gelu")]
    scale = 0.13025 if family == "xl" else 0.18215
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32), down_block_types=["DownEncoderBlock2D"] * 4, layers_per_block=2,
        up_block_types=["UpDecoderBlock2D"] * 4, latent_channels=4, scaling_factor=scale,
    )  # fmt: skip
    pads = [{}] if family == "sd1" else [{"pad_token": "!"}] if family == "sd2" else [{}, {"pad_token": "!"}]
    text_encoders = [
        Clip(encoder, CLIPTokenizer.from_pretrained(tokenizer, **pad))
        for encoder, pad in zip(encoders, pads, strict=True)
    ]
    text = XLText(*text_encoders, zero_empty_prompt=True) if family == "xl" else ClipText(*text_encoders)
    prediction = "v_prediction" if family == "sd2" else "epsilon"
    schedule = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
        "num_train_timesteps": 1000, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": prediction,
    }  # fmt: skip
    return Base(family, UNetBackbone(unet.eval()), vae.eval(), text, schedule, 128)


def named(encoder) -> dict[str, torch.Tensor]:
    """A text encoder's weights under CLIP's names, which start with text_model in every version of transformers."""
    state = encoder.state_dict()
    return {name if name.startswith("text_") else f"text_model.{name}": value for name, value in state.items()}


def openclip(tensors: dict[str, torch.Tensor], unused_layer: bool) -> dict[str, torch.Tensor]:
    """The same weights as stored by OpenCLIP, in SD 2.x with an unused last layer."""
    top = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
        "text_model.final_layer_norm.weight": "ln_final.weight",
        "text_model.final_layer_norm.bias": "ln_final.bias",
    }
    layer = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "fc1": "c_fc", "fc2": "c_proj", "self_attn": "attn"}
    result = {"logit_scale": torch.ones(())}
    for name, value in tensors.items():
        if name in top:
            result[top[name]] = value
        elif name == "text_projection.weight":
            result["text_projection"] = value.T.contiguous()
        elif "q_proj" in name:
            stem, kind = name.replace("text_model.encoder.layers", "transformer.resblocks").split(".self_attn.q_proj.")
            parts = [tensors[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            result[f"{stem}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif "k_proj" not in name and "v_proj" not in name:
            new = name.replace("text_model.encoder.layers", "transformer.resblocks")
            for theirs, own in layer.items():
                new = new.replace(f".{theirs}.", f".{own}.")
            result[new] = value
    if unused_layer:
        last = {n.replace("resblocks.1.", "resblocks.2."): 2 * v for n, v in result.items() if "resblocks.1." in n}
        result |= {**last, "text_projection": torch.ones(64, 64)}
    return result


def whole(base: Base, family: str) -> dict[str, torch.Tensor]:
    """A whole base in the original layout."""
    unet = base.backbone.unet.state_dict()
    attentive = unet_names.attentive_levels(unet)
    tensors = {
        f"model.diffusion_model.{unet_names.to_original(name, attentive)}": value for name, value in unet.items()
    }
    vae = base.autoencoder.state_dict()
    for name, shape in original_vae(vae).items():
        tensors[f"first_stage_model.{name}"] = vae[vae_names.to_diffusers(name, 4)].reshape(shape)
    first = named(base.text.text_encoders[0].encoder)
    if family == "sd1":
        tensors |= {f"cond_stage_model.transformer.{name}": value for name, value in first.items()}
        tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(CONTEXT)[None]
    elif family == "sd2":
        tensors |= {f"cond_stage_model.model.{name}": value for name, value in openclip(first, True).items()}
    else:
        second = openclip(named(base.text.text_encoders[1].encoder), False)
        tensors |= {f"conditioner.embedders.0.transformer.{name}": value for name, value in first.items()}
        tensors |= {f"conditioner.embedders.1.model.{name}": value for name, value in second.items()}
    return tensors


def beside(path: Path, parameterization: str) -> None:
    path.with_suffix(".yaml").write_text(f'model:\n  params:\n    parameterization: "{parameterization}"\n')


@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_one_file_is_the_model(family: str, suffix: str, tokenizer, tmp_path) -> None:
    before, path = model(family, tokenizer), tmp_path / f"whole{suffix}"
    write_weights(whole(before, family), path, {})
    if family == "sd2":
        beside(path, "v")
    base = mq.load_base(path, tokenizer=tokenizer)
    assert base.noise.prediction == before.noise.prediction
    assert base.size == {"sd1": 512, "sd2": 768, "xl": 1024}[family]
    assert base.scheduler_config["prediction_type"] == before.noise.prediction
    z, image = torch.randn(1, 4, 16, 16), mq.diorama.scene(1).image
    with torch.no_grad():
        ours, theirs = (model.encode_text(["a b c"], (128, 128)) for model in (base, before))
        assert torch.allclose(ours.hidden_states, theirs.hidden_states, atol=1e-5)
        assert torch.allclose(base.predict(z, 7, ours), before.predict(z, 7, theirs), atol=1e-5)
        latents = [model.encode_images([image]) for model in (base, before)]
    assert torch.allclose(*latents, atol=1e-5)
    if family == "xl":
        assert torch.allclose(ours.pooled, theirs.pooled, atol=1e-5)
        assert base.text.zero_empty_prompt


def test_a_controlnet_beside_its_base(tokenizer, tmp_path) -> None:
    """v1.0: base and ControlNet in one file, with the decoder from the file."""
    before = model("sd1", tokenizer)
    net = randomise(mq.ControlNet.attach(before))
    net.save(tmp_path / "net")
    saved = open_weights(tmp_path / "net" / "diffusion_pytorch_model.safetensors")
    write_weights({**whole(before, "sd1"), **control.as_original(saved)}, tmp_path / "whole.pth", {})
    base, again = mq.checkpoints.load_original(tmp_path / "whole.pth", num_heads=8, tokenizer=tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    z, text, condition = torch.randn(1, 4, 16, 16), torch.randn(1, 5, 64), torch.rand(1, 3, 128, 128)
    with torch.no_grad():
        ours, theirs = (
            model.predict(z, 7, text, controlnet(z, 7, text, controlnet.encode(condition)))
            for model, controlnet in ((base, again), (before, net))
        )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_parts_that_a_file_lacks(tmp_path, tokenizer) -> None:
    """A U-Net alone can predict; using a missing part is an error."""
    tensors = {n: v for n, v in whole(model("sd1", tokenizer), "sd1").items() if n.startswith("model.diffusion_model.")}
    write_weights(tensors, tmp_path / "unet.safetensors", {})
    base = mq.load_base(tmp_path / "unet.safetensors")
    assert base.predict(torch.randn(1, 4, 16, 16), 7, torch.randn(1, 5, 64)).shape == (1, 4, 16, 16)
    with pytest.raises(MaquetteError, match="came without a text encoder"):
        base.encode_text(["a"])
    with pytest.raises(MaquetteError, match="came without an autoencoder"):
        base.decode_latents(torch.randn(1, 4, 16, 16))


def test_what_a_file_predicts_is_never_guessed(tmp_path, tokenizer) -> None:
    path = tmp_path / "model-768-v.safetensors"
    unet = {n: v for n, v in whole(model("sd2", tokenizer), "sd2").items() if n.startswith("model.diffusion_model.")}
    write_weights(unet, path, {})
    with pytest.raises(MaquetteError, match="does not say what it predicts"):
        mq.load_base(path)
    assert mq.load_base(path, prediction="epsilon").noise.prediction == "epsilon"
    write_weights(unet, path, {"modelspec.prediction_type": "v"})
    assert mq.load_base(path).noise.prediction == "v_prediction"
    with pytest.raises(MaquetteError, match="says that it predicts 'v_prediction', not 'epsilon'"):
        mq.load_base(path, prediction="epsilon")


def test_a_yaml_that_leaves_the_prediction_out_means_noise(tmp_path, tokenizer) -> None:
    """Like the one published with SD 2.1-base."""
    path = tmp_path / "v2-1.safetensors"
    write_weights(whole(model("sd2", tokenizer), "sd2"), path, {})
    path.with_suffix(".yaml").write_text("model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n")
    assert mq.load_base(path, tokenizer=tokenizer).noise.prediction == "epsilon"


def test_a_text_encoder_without_the_unused_layer(tmp_path, tokenizer) -> None:
    """As diffusers' conversion script writes SD 2.x: every layer is used."""
    before, path = model("sd2", tokenizer), tmp_path / "w.safetensors"
    tensors = whole(before, "sd2")
    unused = ("resblocks.2.", "text_projection")
    write_weights({n: v for n, v in tensors.items() if not any(part in n for part in unused)}, path, {})
    beside(path, "v")
    ours, theirs = (
        model.encode_text(["a b"]).hidden_states for model in (mq.load_base(path, tokenizer=tokenizer), before)
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_older_names_of_clip(tmp_path, tokenizer) -> None:
    before, path = model("sd1", tokenizer), tmp_path / "w.safetensors"
    tensors = {n.replace("transformer.text_model.", "transformer."): v for n, v in whole(before, "sd1").items()}
    write_weights({**tensors, "cond_stage_model.transformer.text_projection.weight": torch.ones(64, 64)}, path, {})
    ours, theirs = (
        model.encode_text(["a b"]).hidden_states for model in (mq.load_base(path, tokenizer=tokenizer), before)
    )
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_unsupported_bases_are_refused(tmp_path, tokenizer) -> None:
    tensors, path = whole(model("sd1", tokenizer), "sd1"), tmp_path / "w.safetensors"
    write_weights({**tensors, "edm_mean": torch.zeros(4)}, path, {})
    with pytest.raises(MaquetteError, match="continuous noise schedule"):
        mq.load_base(path)
    write_weights({"model.diffusion_model.joint_blocks.0.weight": torch.ones(1)}, path, {})
    with pytest.raises(MaquetteError, match=r"is of no known family: its .*joint_blocks"):
        mq.load_base(path)
    write_weights({"model.diffusion_model.input_blocks.0.0.weight": torch.ones(4, 4, 3, 3)}, path, {})
    with pytest.raises(MaquetteError, match="The weights lack 'mid_block"):
        mq.load_base(path)


def test_another_schedule_comes_from_the_file(tmp_path, tokenizer) -> None:
    tensors = whole(model("sd1", tokenizer), "sd1")
    usual = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    for betas, expected in ((usual, None), (usual * 0.9, (usual * 0.9).double().tolist())):
        write_weights({**tensors, "betas": betas}, tmp_path / "w.safetensors", {})
        assert (
            mq.load_base(tmp_path / "w.safetensors", tokenizer=tokenizer).scheduler_config.get("trained_betas")
            == expected
        )


def test_a_file_without_its_tokenizer(tmp_path, tokenizer) -> None:
    write_weights(whole(model("sd1", tokenizer), "sd1"), tmp_path / "w.safetensors", {})
    base = mq.load_base(tmp_path / "w.safetensors", tokenizer="nowhere/at-all")  # usable except for prompts
    assert base.predict(torch.randn(1, 4, 16, 16), 7, torch.randn(1, 5, 64)).shape == (1, 4, 16, 16)
    with pytest.raises(MaquetteError, match="contains no tokenizer, and 'nowhere/at-all' could not be loaded"):
        mq.generate(base, "a red house", steps=1)


def test_what_holds_no_base(tmp_path) -> None:
    write_weights({"a": torch.ones(1)}, tmp_path / "a.safetensors", {})
    with pytest.raises(MaquetteError, match="holds no base: no tensor's name begins with"):
        mq.load_base(tmp_path / "a.safetensors")


def test_from_the_hub_s_cache(tmp_path, monkeypatch, tokenizer) -> None:
    """A repository in the cache is found without a network, at its branch or its commit."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    home = tmp_path / "models--someone--house"
    save_base(model("sd1", tokenizer), home / "snapshots" / commit)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    for name in ("someone/house", f"someone/house@{commit}"):
        base = mq.load_base(name)
        assert base.backbone.slots[0].channels == 32
    net = home.with_name("models--someone--net") / "snapshots" / commit
    randomise(mq.ControlNet.attach(base)).save(net)
    (net / WEIGHTS).rename(net / "diffusion_pytorch_model.fp16.safetensors")  # the only precision there is
    (net.parents[1] / "refs").mkdir()
    (net.parents[1] / "refs" / "main").write_text(commit)
    assert mq.load_controlnet("someone/net", base).fits(base.backbone)
    assert "a ControlNet" in info("someone/net")
    assert "a base" in info("someone/house")
    with pytest.raises(MaquetteError, match="neither a folder here nor in the Hub's cache"):
        mq.load_base("someone/palace")


def changed(tensors: dict[str, torch.Tensor], seed: int) -> tuple[str, dict[str, torch.Tensor]]:
    """Tensors of which one is missing, or of another shape; and what was done."""
    chance = random.Random(seed)
    outer = [name for name in tensors if not re.search(r"blocks|layers|down\.|up\.", name)]
    name = chance.choice(outer if seed % 2 else sorted(tensors))
    shape, rest = tensors[name].shape, {other: value for other, value in tensors.items() if other != name}
    shapes = [None, (), (0,), (1,), (*shape, 1), shape[:-1], (0,) * len(shape), shape[::-1], (7, *shape[1:])]
    another = chance.choice(shapes)
    return f"{name} {another}", rest if another is None else {**rest, name: torch.ones(another)}


@pytest.mark.parametrize("family", ["sd1", "sd2", "xl"])
def test_a_tensor_that_is_missing_or_of_another_shape_is_said(family, tokenizer, tmp_path) -> None:
    tensors, path = whole(model(family, tokenizer), family), tmp_path / "whole.safetensors"
    tensors |= {"scale_factor": torch.tensor(0.2), "betas": torch.linspace(0.001, 0.012, 1000)}
    refused = 0
    for seed in range(20):
        what, others = changed(tensors, seed)
        write_weights(others, path, {})
        try:
            mq.load_base(path, tokenizer=tokenizer, prediction="epsilon")
        except MaquetteError:
            refused += 1
        except Exception as error:
            raise AssertionError(what) from error
    assert refused > 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_factor", torch.zeros(())),
        ("scale_factor", torch.ones(0)),
        ("betas", torch.full((1000,), 2.0)),
        ("betas", torch.ones(0)),
    ],
)
def test_numbers_of_a_file_that_are_out_of_range(name, value, tokenizer, tmp_path) -> None:
    write_weights({**whole(model("sd1", tokenizer), "sd1"), name: value}, tmp_path / "w.safetensors", {})
    with pytest.raises(MaquetteError, match=r"w\.safetensors' "):
        mq.load_base(tmp_path / "w.safetensors", tokenizer=tokenizer)
