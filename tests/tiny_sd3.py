"""A tiny Stable Diffusion 3 on random weights: the transformer, two CLIPs, T5 and an autoencoder with a shift."""

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3ControlNetModel, SD3Transformer2DModel
from torch import nn
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel, T5TokenizerFast

from maquette.backbones.transformers.sd3 import SD3Backbone
from maquette.base import Base, Defaults
from maquette.text.sd3 import T5, SD3Text
from tests.conftest import tiny_clip, tiny_vae

WIDTH, PROJECTIONS, SHIFT = 40, (12, 20), 0.3
MEDIUM = {"dual_attention_layers": (0, 1), "qk_norm": "rms_norm"}  # as in 3.5 medium, and in large but for the former


def tiny_transformer(blocks: int = 4, seed: int = 0, **more) -> SD3Transformer2DModel:
    """Every weight random: the modulations that a new one has at zero too."""
    torch.manual_seed(seed)
    settings = {
        "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": blocks,
        "attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": WIDTH, "caption_projection_dim": 16,
        "pooled_projection_dim": sum(PROJECTIONS), "pos_embed_max_size": 12,
    }  # fmt: skip
    return randomised(SD3Transformer2DModel(**{**settings, **more}), seed).eval()


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return network


def tiny_t5(width: int = WIDTH) -> T5:
    """Its tokenizer knows letters."""
    letters = [(f"{start}{chr(number)}", -1.0) for number in range(97, 123) for start in ("", "\u2581")]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("\u2581", -2.0), *letters]
    tokenizer = T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=512)
    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=32, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu"
    )  # fmt: skip
    return T5(T5EncoderModel(config).eval(), tokenizer)


def certain_vae(seed: int = 0) -> AutoencoderKL:
    """With a shift, and posteriors that are certain, so that a sample of one is its mean."""
    torch.manual_seed(seed)
    vae, channels = tiny_vae(4), 4
    vae.register_to_config(shift_factor=SHIFT, scaling_factor=1.5)
    vae.quant_conv.weight.data[channels:], vae.quant_conv.bias.data[channels:] = 0, -30
    return vae


def tiny_sd3(t5: bool = True, blank: int = 0, blocks: int = 4, seed: int = 0, context: int = 16, **more) -> Base:
    """A whole base."""
    transformer, vae = tiny_transformer(blocks, seed, **more), certain_vae(seed)
    clips = [
        tiny_clip(CLIPTextModelWithProjection, width, context, projection_dim=projection)
        for width, projection in zip((16, 8), PROJECTIONS, strict=True)
    ]
    text = SD3Text(*clips, WIDTH, tiny_t5() if t5 else None, blank)
    schedule = {**FlowMatchEulerDiscreteScheduler(shift=3.0).config, "_class_name": "FlowMatchEulerDiscreteScheduler"}
    return Base("tiny-sd3", SD3Backbone(transformer), vae, text, schedule, 128, Defaults(28, 7.0, "euler"))


def published(base: Base, blocks: int, seed: int = 5, **more) -> SD3ControlNetModel:
    """diffusers' ControlNet on a base, every weight random."""
    config = {**base.backbone.network.config, "num_layers": blocks, "extra_conditioning_channels": 0, **more}
    dual = [number for number in config["dual_attention_layers"] if number < blocks]
    return randomised(SD3ControlNetModel.from_config({**config, "dual_attention_layers": dual}), seed).eval()


def originals(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A transformer's tensors under the names of Stability AI, from diffusers'; written out block by block."""
    made, state = {}, dict(state)

    def take(new: str, *old: str, swapped: bool = False) -> None:
        for kind in ("weight", "bias"):
            if f"{old[0]}.{kind}" in state:
                value = torch.cat([state.pop(f"{one}.{kind}") for one in old])
                made[f"{new}.{kind}"] = torch.cat(value.chunk(2)[::-1]) if swapped else value

    made["pos_embed"] = state.pop("pos_embed.pos_embed")
    take("x_embedder.proj", "pos_embed.proj"), take("context_embedder", "context_embedder")
    for new, old in (("t_embedder", "timestep_embedder"), ("y_embedder", "text_embedder")):
        for layer, number in ((0, 1), (2, 2)):
            take(f"{new}.mlp.{layer}", f"time_text_embed.{old}.linear_{number}")
    take("final_layer.linear", "proj_out"), take("final_layer.adaLN_modulation.1", "norm_out.linear", swapped=True)
    blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("transformer_blocks."))
    for number in range(blocks):
        new, old = f"joint_blocks.{number}", f"transformer_blocks.{number}"
        is_last = number == blocks - 1
        take(f"{new}.x_block.adaLN_modulation.1", f"{old}.norm1.linear")
        take(f"{new}.context_block.adaLN_modulation.1", f"{old}.norm1_context.linear", swapped=is_last)
        for attention in ("attn", "attn2"):
            take(f"{new}.x_block.{attention}.qkv", *(f"{old}.{attention}.to_{part}" for part in "qkv"))
            take(f"{new}.x_block.{attention}.proj", f"{old}.{attention}.to_out.0")
            take(f"{new}.x_block.{attention}.ln_q", f"{old}.{attention}.norm_q")
            take(f"{new}.x_block.{attention}.ln_k", f"{old}.{attention}.norm_k")
        take(f"{new}.context_block.attn.qkv", *(f"{old}.attn.add_{part}_proj" for part in "qkv"))
        take(f"{new}.context_block.attn.proj", f"{old}.attn.to_add_out")
        take(f"{new}.context_block.attn.ln_q", f"{old}.attn.norm_added_q")
        take(f"{new}.context_block.attn.ln_k", f"{old}.attn.norm_added_k")
        for half, feed in (("x_block", "ff"), ("context_block", "ff_context")):
            take(f"{new}.{half}.mlp.fc1", f"{old}.{feed}.net.0.proj")
            take(f"{new}.{half}.mlp.fc2", f"{old}.{feed}.net.2")
    assert not state, f"no original name for {sorted(state)}"
    return made


def original_control(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A ControlNet's tensors, of the image alone, as Stability AI published those of 3.5 large."""
    names = {
        "norm1.linear": "adaLN_modulation.1", "attn.to_out.0": "attn.proj", "ff.net.0.proj": "mlp.fc1",
        "ff.net.2": "mlp.fc2",
    }  # fmt: skip
    made = {"control_type": torch.tensor(1)}
    for name, value in state.items():
        if ".attn.to_q." in name:
            parts = [state[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            made[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif ".attn.to_k." not in name and ".attn.to_v." not in name:
            old = next((old for old in names if f".{old}." in name), "")
            made[name.replace(old, names[old]) if old else name] = value
    return made
