"""A tiny Qwen-Image on random weights: the transformer, Qwen2.5-VL, and an autoencoder of videos."""

import re

import torch
from diffusers import (
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from maquette.backbones.frames import FrameAutoencoder
from maquette.backbones.transformers.qwen import QwenBackbone
from maquette.base import Base, Defaults
from maquette.text.qwen import TEMPLATE, QwenText
from tests.tiny_sd3 import WIDTH, randomised

SCHEDULE = {"_class_name": "FlowMatchEulerDiscreteScheduler"} | dict(
    FlowMatchEulerDiscreteScheduler(
        shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
    ).config
)
"""As published."""
COPIED = (
    "patch_size", "in_channels", "out_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim",
    "axes_dims_rope",
)  # fmt: skip


def tiny_transformer(blocks: int = 4, seed: int = 0, **more) -> QwenImageTransformer2DModel:
    """Every weight random, also those of norms and modulations."""
    settings = {
        "in_channels": 16, "out_channels": 4, "num_layers": blocks, "attention_head_dim": 16, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "axes_dims_rope": (4, 6, 6),
    }  # fmt: skip
    return randomised(QwenImageTransformer2DModel(**{**settings, **more}), seed).eval()


def tiny_tokenizer() -> Qwen2Tokenizer:
    """It knows bytes and, as Qwen's own does, each word of the template as one token."""
    words, merges = sorted(ByteLevel.alphabet()), []
    plain = re.findall(r" ?[A-Za-z]+", re.sub(r"<.*?>", "\n", TEMPLATE))
    for word in dict.fromkeys(plain):
        letters = word.replace(" ", "\u0120")
        merges += [(letters[:length], letters[length]) for length in range(1, len(letters))]
    words += dict.fromkeys("".join(merge) for merge in merges)
    merges = list(dict.fromkeys(merges))
    tokenizer = Qwen2Tokenizer(vocab={word: number for number, word in enumerate(words)}, merges=merges)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


def tiny_text(seed: int = 0) -> QwenText:
    torch.manual_seed(seed)
    tokenizer = tiny_tokenizer()
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
            "max_window_layers": 2, "bos_token_id": 0, "eos_token_id": 0,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 4, 4]},
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": WIDTH,
            "fullatt_block_indexes": [0],
        },
    )  # fmt: skip
    return QwenText(Qwen2_5_VLForConditionalGeneration(config), tokenizer, WIDTH)


def tiny_frames(seed: int = 0) -> AutoencoderKLQwenImage:
    """Its posteriors are certain, so that a sample of one is its mean."""
    torch.manual_seed(seed)
    video = AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, latents_mean=[-0.7, 0.3, 0.1, 1.5],
        latents_std=[2.8, 1.4, 0.6, 1.1],
    ).eval()  # fmt: skip
    video.quant_conv.weight.data[4:], video.quant_conv.bias.data[4:] = 0, -30
    return video


def tiny_qwen(blocks: int = 4, seed: int = 0, context: int = 512, **more) -> Base:
    """A whole base; of any prompt it reads all, whatever `context` is."""
    transformer = tiny_transformer(blocks, seed, **more)
    vae = FrameAutoencoder(tiny_frames(seed))
    return Base("tiny-qwen", QwenBackbone(transformer), vae, tiny_text(seed), SCHEDULE, 128, Defaults(50, 4.0, "euler"))


def published(network: QwenImageTransformer2DModel, blocks: int, seed: int = 5, **more) -> QwenImageControlNetModel:
    """diffusers' ControlNet on a base, every weight random."""
    config = {name: network.config[name] for name in COPIED}
    return randomised(QwenImageControlNetModel.from_config({**config, "num_layers": blocks, **more}), seed).eval()
