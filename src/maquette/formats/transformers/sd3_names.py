"""Stable Diffusion 3's tensors under the names that Stability AI gave them, translated to diffusers'.

Queries, keys and values are one tensor there and three here; scale and shift are in the other order in the last norm,
and in that of the text's half of the last block. ControlNets of 3.5 large have blocks of the image alone, and
diffusers' names everywhere else.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from maquette.errors import MaquetteError
from maquette.formats.topology import shape_of
from maquette.formats.transformers.parts import Part, taken_apart
from maquette.foundation.weights import Shape, Weights

PREFIX = "model.diffusion_model."
_MARK, _CONTROL_MARK = "joint_blocks.0.x_block.attn.qkv.weight", "transformer_blocks.0.attn.qkv.weight"
_KIND = "control_type"  # of a ControlNet: a number that no network takes
_CANNY, _DEPTH = 1, 2
_MODULATION, _QKV = "adaLN_modulation.1.", re.compile(r"(attn2?)\.qkv\.")

_PLAIN = (
    (r"pos_embed$", "pos_embed.pos_embed"),
    (r"x_embedder\.", "pos_embed."),
    (r"context_embedder\.", "context_embedder."),
    (r"t_embedder\.mlp\.0\.", "time_text_embed.timestep_embedder.linear_1."),
    (r"t_embedder\.mlp\.2\.", "time_text_embed.timestep_embedder.linear_2."),
    (r"y_embedder\.mlp\.0\.", "time_text_embed.text_embedder.linear_1."),
    (r"y_embedder\.mlp\.2\.", "time_text_embed.text_embedder.linear_2."),
    (r"final_layer\.linear\.", "proj_out."),
    (r"final_layer\.adaLN_modulation\.1\.", "norm_out.linear."),
    (r"((?:time_text_embed|controlnet_blocks|pos_embed_input)\.)", r"\1"),
)
"""Tensors outside of blocks, by the beginning of the original name."""

_IMAGE = {
    _MODULATION: "norm1.linear.",
    "attn.proj.": "attn.to_out.0.",
    "attn.ln_q.": "attn.norm_q.",
    "attn.ln_k.": "attn.norm_k.",
    "attn2.proj.": "attn2.to_out.0.",
    "attn2.ln_q.": "attn2.norm_q.",
    "attn2.ln_k.": "attn2.norm_k.",
    "mlp.fc1.": "ff.net.0.proj.",
    "mlp.fc2.": "ff.net.2.",
}
_TEXT = {
    _MODULATION: "norm1_context.linear.",
    "attn.proj.": "attn.to_add_out.",
    "attn.ln_q.": "attn.norm_added_q.",
    "attn.ln_k.": "attn.norm_added_k.",
    "mlp.fc1.": "ff_context.net.0.proj.",
    "mlp.fc2.": "ff_context.net.2.",
}


class Half(NamedTuple):
    """The image's or the text's half of a block."""

    beginning: str  # of its tensors
    names: Mapping[str, str]
    thirds: tuple[str, str, str]  # queries, keys and values


_HALVES = (
    Half(r"joint_blocks\.(\d+)\.x_block\.", _IMAGE, ("to_q", "to_k", "to_v")),
    Half(r"joint_blocks\.(\d+)\.context_block\.", _TEXT, ("add_q_proj", "add_k_proj", "add_v_proj")),
    Half(r"transformer_blocks\.(\d+)\.", _IMAGE, ("to_q", "to_k", "to_v")),  # of a ControlNet
)


def is_original(names: Mapping[str, object]) -> bool:
    """Whether tensors are a base's under original names, alone or in a whole model."""
    return _MARK in names or PREFIX + _MARK in names


def is_original_control(names: Mapping[str, object]) -> bool:
    """Whether tensors are those of a ControlNet of 3.5 large under original names."""
    return _CONTROL_MARK in names


def stated_contract(weights: Weights) -> dict[str, Any]:
    """What a ControlNet of 3.5 large states by its number of how maps are encoded; empty where there is nothing to say.

    For edges the autoencoder is given 0.5 + 127.5 a instead of 2 a - 1, as their model card does; of depth 1 - a, as
    ComfyUI does, since these nets were trained on maps that grow darker towards the eye.
    """
    is_told = is_original_control(weights) and weights.shapes.get(_KIND) in ((), (1,))
    kind = float(weights[_KIND].flatten()[0]) if is_told else 0
    if kind == _CANNY:
        return {"encoded_range": [0.5, 128.0], "categorical": False, "lines": True}
    return {"encoded_range": [1.0, -1.0], "categorical": False} if kind == _DEPTH else {}


def diffusers_names(weights: Weights) -> Weights:
    """A network's tensors under diffusers' names, read lazily.

    Raises `MaquetteError` for a tensor without one, and for one of a shape that does not divide.
    """
    own = weights.below(PREFIX) if PREFIX + _MARK in weights else weights
    width = shape_of(own.shapes, _MARK if _MARK in own else _CONTROL_MARK, "Stable Diffusion 3", 2)[-1]
    parts: dict[str, Part] = {}
    for stored, shape in own.shapes.items():
        if stored != _KIND:
            parts.update(_parts(stored, shape, width, own))
    return taken_apart(own, parts)


def _parts(stored: str, shape: Shape, width: int, weights: Weights) -> dict[str, Part]:
    """The tensors that an original one of this shape becomes, by diffusers' name."""
    rows = shape[0] if shape else 0
    for beginning, name in _PLAIN:
        if found := re.match(beginning, stored):
            is_norm = name == "norm_out.linear."
            return {found.expand(name) + stored[found.end() :]: Part(stored, 0, rows, is_norm)}
    for half in _HALVES:
        if found := re.match(half.beginning, stored):
            block, rest = f"transformer_blocks.{found[1]}.", stored[found.end() :]
            if qkv := _QKV.match(rest):
                if rows != 3 * width:
                    raise MaquetteError(
                        f"{stored!r} in {str(weights.source)!r} has the shape {shape}, which holds no queries, keys "
                        f"and values of width {width}; fetch it anew."
                    )
                names = [f"{block}{qkv[1]}.{third}.{rest[qkv.end() :]}" for third in half.thirds]
                return {name: Part(stored, width * number, width) for number, name in enumerate(names)}
            part = next((part for part in half.names if rest.startswith(part)), None)
            if part is not None:
                is_last = half.names[part] == _TEXT[_MODULATION] and rows == 2 * width  # the others have gates, too
                return {block + half.names[part] + rest.removeprefix(part): Part(stored, 0, rows, is_last)}
    raise MaquetteError(f"{stored!r} in {str(weights.source)!r} is no part of a Stable Diffusion 3; fetch it anew.")
