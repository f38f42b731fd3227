"""A union ControlNet on the tiny Stable Diffusion XL, made by diffusers, with random weights everywhere."""

import torch
from diffusers import ControlNetUnionModel, UNet2DConditionModel


def published_union(unet: UNet2DConditionModel, types: int = 6, seed: int = 5) -> ControlNetUnionModel:
    """As diffusers builds it; the zero layers are randomised, so that a test of them can fail."""
    names = (
        "down_block_types", "block_out_channels", "layers_per_block", "norm_num_groups", "cross_attention_dim",
        "transformer_layers_per_block", "attention_head_dim", "use_linear_projection", "addition_embed_type",
        "addition_time_embed_dim", "projection_class_embeddings_input_dim", "in_channels",
    )  # fmt: skip
    width = unet.config.block_out_channels[0]
    torch.manual_seed(seed)
    net = ControlNetUnionModel(
        **{name: unet.config[name] for name in names},
        conditioning_embedding_out_channels=(16, 32, 96, 256), num_control_type=types, num_trans_channel=width,
        num_trans_head=4, num_proj_channel=width,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            if not parameter.any():
                parameter.normal_(std=0.2)
    return net.eval()
