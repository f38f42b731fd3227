"""A tiny Flux on random weights: the transformer, a CLIP, T5 and an autoencoder with a shift."""

from dataclasses import replace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxControlNetModel, FluxTransformer2DModel
from transformers import CLIPTextModel

from maquette.backbones.transformers.flux import FluxBackbone
from maquette.base import Base, Defaults
from maquette.text.flux import FluxText
from tests.conftest import tiny_clip
from tests.tiny_sd3 import WIDTH, certain_vae, randomised, tiny_t5

HEADS, POOLED = 2, 16
XLABS = {"patch_size": 2, "conditioning_embedding_channels": 4}
SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | dict(
    FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15).config
)


def tiny_transformer(doubles: int = 3, singles: int = 4, seed: int = 0, **more) -> FluxTransformer2DModel:
    """Every weight random, also those of norms and modulations."""
    settings = {
        "in_channels": 16, "num_layers": doubles, "num_single_layers": singles, "attention_head_dim": 16,
        "num_attention_heads": HEADS, "joint_attention_dim": WIDTH, "pooled_projection_dim": POOLED,
        "axes_dims_rope": (4, 6, 6), "guidance_embeds": True,
    }  # fmt: skip
    return randomised(FluxTransformer2DModel(**{**settings, **more}), seed).eval()


def tiny_flux(doubles: int = 3, singles: int = 4, seed: int = 0, context: int = 16, **more) -> Base:
    """A whole base."""
    transformer, vae = tiny_transformer(doubles, singles, seed, **more), certain_vae(seed)
    length = 512 if transformer.config.guidance_embeds else 256
    text = FluxText(tiny_clip(CLIPTextModel, POOLED, context), replace(tiny_t5(), length=length), WIDTH)
    return Base("tiny-flux", FluxBackbone(transformer), vae, text, SCHEDULE, 128, Defaults(28, 1.0, "euler"))


def published(
    network: FluxTransformer2DModel, doubles: int, singles: int = 0, seed: int = 5, paints: bool = False, **more
):
    """diffusers' ControlNet on a base, every weight random.

    Args:
        paints: whether a mask comes beside its condition, as in alimama's; diffusers has no setting for it.
    """
    config = {name: value for name, value in network.config.items() if name[0] != "_" and name != "out_channels"}
    config = {**config, "num_layers": doubles, "num_single_layers": singles, **more}
    net = FluxControlNetModel.from_config(config)
    if paints:
        net.controlnet_x_embedder = torch.nn.Linear(config["in_channels"] + 4, network.inner_dim)
    return randomised(net, seed).eval()


def originals(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under the names of Black Forest Labs and XLabs, from diffusers'; written out block by block."""
    made, state = {}, dict(state)

    def take(new: str, *old: str) -> None:
        for kind in ("weight", "bias"):
            if f"{old[0]}.{kind}" in state:
                made[f"{new}.{kind}"] = torch.cat([state.pop(f"{one}.{kind}") for one in old])

    embedders = {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}
    for new, old in embedders.items():
        for layer, number in (("in_layer", 1), ("out_layer", 2)):
            take(f"{new}.{layer}", f"time_text_embed.{old}.linear_{number}")
    take("img_in", "x_embedder"), take("txt_in", "context_embedder"), take("final_layer.linear", "proj_out")
    take("pos_embed_input", "controlnet_x_embedder")
    for number in range(8):
        layer = {0: "conv_in", 7: "conv_out"}.get(number, f"blocks.{number - 1}")
        take(f"input_hint_block.{2 * number}", f"input_hint_block.{layer}")
    for block in range(8):
        new, old = f"double_blocks.{block}", f"transformer_blocks.{block}"
        for side, suffix, qkv, out, norm in (
            ("img", "", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
            (
                "txt",
                "_context",
                ("add_q_proj", "add_k_proj", "add_v_proj"),
                "to_add_out",
                ("norm_added_q", "norm_added_k"),
            ),
        ):
            take(f"{new}.{side}_mod.lin", f"{old}.norm1{suffix}.linear")
            take(f"{new}.{side}_attn.qkv", *(f"{old}.attn.{one}" for one in qkv))
            take(f"{new}.{side}_attn.proj", f"{old}.attn.{out}")
            (
                take(f"{new}.{side}_mlp.0", f"{old}.ff{suffix}.net.0.proj"),
                take(f"{new}.{side}_mlp.2", f"{old}.ff{suffix}.net.2"),
            )
            for name, theirs in zip(norm, ("query_norm", "key_norm"), strict=True):
                if f"{old}.attn.{name}.weight" in state:
                    made[f"{new}.{side}_attn.norm.{theirs}.scale"] = state.pop(f"{old}.attn.{name}.weight")
        new, old = f"single_blocks.{block}", f"single_transformer_blocks.{block}"
        take(f"{new}.modulation.lin", f"{old}.norm.linear"), take(f"{new}.linear2", f"{old}.proj_out")
        take(f"{new}.linear1", *(f"{old}.attn.{one}" for one in ("to_q", "to_k", "to_v")), f"{old}.proj_mlp")
        for name, theirs in (("norm_q", "query_norm"), ("norm_k", "key_norm")):
            if f"{old}.attn.{name}.weight" in state:
                made[f"{new}.norm.{theirs}.scale"] = state.pop(f"{old}.attn.{name}.weight")
    for kind in ("weight", "bias"):
        if f"norm_out.linear.{kind}" in state:
            scale, shift = state.pop(f"norm_out.linear.{kind}").chunk(2)
            made[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    made.update({name: state.pop(name) for name in list(state) if name.startswith("controlnet_blocks.")})
    assert not state, list(state)
    return {name: value.contiguous() for name, value in made.items()}
