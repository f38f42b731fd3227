"""Translating the weight names of U-Nets and ControlNets between the original repository and diffusers.

The original numbers its blocks consecutively: input_blocks.0 is the first convolution, followed by the layers and the
downsampler of each level; output_blocks likewise, with the upsampler inside a level's last block.
"""

import re
from collections.abc import Iterable

LAYERS = 2  # residual blocks per level in Stable Diffusion 1.x, 2.x and XL; the decoder has one more


class UnknownNameError(LookupError):
    """A weight that no U-Net or ControlNet of Stable Diffusion has."""


_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "middle_block_out.0": "controlnet_mid_block",
    "input_hint_block.0": "controlnet_cond_embedding.conv_in",
    "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    **{f"input_hint_block.{2 * k + 2}": f"controlnet_cond_embedding.blocks.{k}" for k in range(6)},
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TOP_BACK = {theirs: original for original, theirs in _TOP.items()}
_RESNET_BACK = {theirs: original for original, theirs in _RESNET.items()}


def to_diffusers(original: str) -> str:
    """diffusers' name for an original name without "control_model." or "model.diffusion_model.".

    Raises `UnknownNameError` for a name that no U-Net or ControlNet has.
    """
    if zero := re.fullmatch(r"zero_convs\.(\d+)\.0\.(\w+)", original):
        return f"controlnet_down_blocks.{zero[1]}.{zero[2]}"
    if (top := _swapped(original, _TOP)) is not None:
        return _inside(top)
    side, block, part, rest = _parsed(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)", original)
    if side == "input":
        level, layer = divmod(int(block) - 1, LAYERS + 1)
        if layer == LAYERS:
            return f"down_blocks.{level}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    else:
        level, layer = divmod(int(block), LAYERS + 1)
        if rest.startswith("conv."):
            return f"up_blocks.{level}.upsamplers.0.{rest}"
    way = "down" if side == "input" else "up"
    if part == "0":
        return _inside(f"{way}_blocks.{level}.resnets.{layer}.{rest}")
    return f"{way}_blocks.{level}.attentions.{layer}.{rest}"


def to_original(theirs: str, attentive: frozenset[int]) -> str:
    """The original name for one of diffusers'.

    Args:
        attentive: decoder levels with attention (`attentive_levels`), where the upsampler is the third module.

    Raises `UnknownNameError` for a name that no U-Net or ControlNet has.
    """
    if zero := re.fullmatch(r"controlnet_down_blocks\.(\d+)\.(\w+)", theirs):
        return f"zero_convs.{zero[1]}.0.{zero[2]}"
    if (top := _swapped(_outside(theirs), _TOP_BACK)) is not None:
        return top
    way, level, kind, layer, rest = _parsed(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", theirs)
    first = int(level) * (LAYERS + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + LAYERS + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        return f"output_blocks.{first + LAYERS}.{2 if int(level) in attentive else 1}.{rest}"
    block = f"input_blocks.{first + int(layer) + 1}" if way == "down" else f"output_blocks.{first + int(layer)}"
    return f"{block}.0.{_resnet(rest, _RESNET_BACK)}" if kind == "resnets" else f"{block}.1.{rest}"


def attentive_levels(theirs: Iterable[str]) -> frozenset[int]:
    """The decoder levels that have attention, from all names in diffusers' layout."""
    matches = (re.match(r"up_blocks\.(\d+)\.attentions", name) for name in theirs)
    return frozenset(int(match[1]) for match in matches if match)


def _swapped(name: str, names: dict[str, str]) -> str | None:
    """The name with its longest prefix in `names` replaced; None if no prefix is there."""
    parts = name.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if (other := names.get(".".join(parts[:count]))) is not None:
            return ".".join([other, *parts[count:]])
    return None


def _parsed(pattern: str, name: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, name)
    if found is None:
        raise UnknownNameError(name)
    return found.groups()


def _resnet(rest: str, names: dict[str, str]) -> str:
    swapped = _swapped(rest, names)
    if swapped is None:
        raise UnknownNameError(rest)
    return swapped


def _inside(name: str) -> str:
    """The name with the part inside a residual block translated to diffusers' name."""
    found = re.fullmatch(r"(.*resnets\.\d+)\.(.+)", name)
    return f"{found[1]}.{_resnet(found[2], _RESNET)}" if found else name


def _outside(name: str) -> str:
    """The inverse of `_inside`, for the middle block."""
    found = re.fullmatch(r"(mid_block\.resnets\.\d+)\.(.+)", name)
    return f"{found[1]}.{_resnet(found[2], _RESNET_BACK)}" if found else name
