"""Residual blocks of U-Nets and autoencoders, with fewer feature maps made on the way."""

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor


def is_plain(block: ResnetBlock2D) -> bool:
    """Whether it keeps the size of its input, adds what is made of the time, and leaves its sum as it is."""
    resizes = block.upsample is not None or block.downsample is not None
    return not resizes and block.time_embedding_norm == "default" and block.output_scale_factor == 1


def residual(block: ResnetBlock2D, x: Tensor, temb: Tensor | None = None) -> Tensor:
    """What a block that `is_plain` makes of x (B, C, h, w) and a time (B, T), to the last bit: (B, D, h, w).

    diffusers makes a new map for each of two sums and divides the last one by 1; here sums take the place of what was
    convolved, which no gradient needs.
    """
    hidden: Tensor = block.conv1(block.nonlinearity(block.norm1(x)))
    if block.time_emb_proj is not None:
        time = temb if block.skip_time_act else block.nonlinearity(temb)
        hidden += block.time_emb_proj(time)[:, :, None, None]
    hidden = block.conv2(block.dropout(block.nonlinearity(block.norm2(hidden))))
    hidden += x if block.conv_shortcut is None else block.conv_shortcut(x)
    return hidden
