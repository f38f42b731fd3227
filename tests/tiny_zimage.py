"""A tiny Z-Image on random weights: the transformer, Qwen3, and an autoencoder."""

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageControlNetModel, ZImageTransformer2DModel
from transformers import Qwen3Config, Qwen3Model

from maquette.backbones.transformers.zimage import ZImageBackbone
from maquette.base import Base, Defaults
from maquette.text.qwen3 import Qwen3Text
from tests.tiny_qwen import tiny_tokenizer
from tests.tiny_sd3 import WIDTH, certain_vae, randomised

SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | dict(FlowMatchEulerDiscreteScheduler(shift=3.0).config)
"""As published with Z-Image-Turbo."""
COPIED = (
    "all_patch_size", "all_f_patch_size", "dim", "n_refiner_layers", "n_heads", "n_kv_heads", "norm_eps", "qk_norm",
)  # fmt: skip
FORMS = {
    "1.0": {"control_in_dim": 4, "add_control_noise_refiner": None},
    "2.0": {"control_in_dim": 9, "add_control_noise_refiner": "control_layers"},
    "2.1": {"control_in_dim": 9, "add_control_noise_refiner": "control_noise_refiner"},
}
"""Versions of VideoX-Fun's ControlNets."""


def tiny_transformer(blocks: int = 4, seed: int = 0, **more) -> ZImageTransformer2DModel:
    """Every weight random, also those of norms, modulations and padding."""
    settings = {
        "in_channels": 4, "dim": 32, "n_layers": blocks, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2,
        "cap_feat_dim": WIDTH, "axes_dims": [4, 6, 6], "axes_lens": [640, 32, 32],
    }  # fmt: skip
    return randomised(ZImageTransformer2DModel(**{**settings, **more}), seed).eval()


def tiny_text(seed: int = 0) -> Qwen3Text:
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=20, max_position_embeddings=1024, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return Qwen3Text(Qwen3Model(config), tokenizer, WIDTH)


def tiny_zimage(blocks: int = 4, seed: int = 0, context: int = 512, **more) -> Base:
    """A whole base; of any prompt it reads all, whatever `context` is."""
    transformer = tiny_transformer(blocks, seed, **more)
    backbone, text = ZImageBackbone(transformer), tiny_text(seed)
    return Base("tiny-z-image", backbone, certain_vae(seed), text, SCHEDULE, 128, Defaults(50, 6.0, "euler"))


def published(
    network: ZImageTransformer2DModel, form: str, blocks: int = 2, seed: int = 5, **more
) -> ZImageControlNetModel:
    """diffusers' ControlNet on a base, every weight random."""
    layers = network.config.n_layers
    config = {name: network.config[name] for name in COPIED} | FORMS[form] | more
    config["control_layers_places"] = [number * layers // blocks for number in range(blocks)]
    config["control_refiner_layers_places"] = [0, 1] if config["add_control_noise_refiner"] else []
    net = randomised(ZImageControlNetModel.from_config(config), seed).eval()
    net.gradient_checkpointing = False  # without it, diffusers' class cannot be run with gradients
    return ZImageControlNetModel.from_transformer(net, network)
