"""From the original repository's names of an autoencoder's weights to diffusers' names.

The original counts decoder levels from the finest, diffusers from the coarsest. Attention consists of 1×1 convolutions
in the original and of linear layers in diffusers.
"""

import re

from torch import Tensor

_PARTS = (
    ("mid.block_1.", "mid_block.resnets.0."),
    ("mid.block_2.", "mid_block.resnets.1."),
    ("mid.attn_1.norm.", "mid_block.attentions.0.group_norm."),
    ("mid.attn_1.proj_out.", "mid_block.attentions.0.to_out.0."),
    ("mid.attn_1.q.", "mid_block.attentions.0.to_q."),
    ("mid.attn_1.k.", "mid_block.attentions.0.to_k."),
    ("mid.attn_1.v.", "mid_block.attentions.0.to_v."),
    (".nin_shortcut.", ".conv_shortcut."),
    (".norm_out.", ".conv_norm_out."),
)


def to_diffusers(original: str, levels: int) -> str:
    """diffusers' name for an original name without "first_stage_model."."""
    name = original
    for part, theirs in _PARTS:
        name = name.replace(part, theirs)
    name = re.sub(r"\bdown\.(\d+)\.block\.", r"down_blocks.\1.resnets.", name)
    name = re.sub(r"\bdown\.(\d+)\.downsample\.", r"down_blocks.\1.downsamplers.0.", name)
    name = re.sub(r"\bup\.(\d+)\.block\.", lambda at: f"up_blocks.{_other_end(at, levels)}.resnets.", name)
    return re.sub(r"\bup\.(\d+)\.upsample\.", lambda at: f"up_blocks.{_other_end(at, levels)}.upsamplers.0.", name)


def modern(theirs: str) -> str:
    """diffusers' current name for one of its former names, as found in the folders of Stable Diffusion 1.x."""
    for old, new in ((".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")):
        theirs = theirs.replace(old, new)
    return theirs


def shaped(theirs: str, value: Tensor) -> Tensor:
    """An attention's 1×1 convolution (C, C, 1, 1) as diffusers' linear layer (C, C); other tensors unchanged."""
    return value.flatten(1) if _is_projection(theirs, tuple(value.shape)) else value


def shape(theirs: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of the result of `shaped`."""
    return shape[:2] if _is_projection(theirs, shape) else shape


def _is_projection(theirs: str, shape: tuple[int, ...]) -> bool:
    return "attentions.0.to_" in theirs and theirs.endswith("weight") and len(shape) == 4 and shape[2:] == (1, 1)


def _other_end(found: re.Match[str], levels: int) -> int:
    return levels - 1 - int(found[1])
