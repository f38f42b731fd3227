"""Flux.1's tensors under their original names (Black Forest Labs, XLabs), translated to diffusers'.

Queries, keys and values are one tensor there and three here, in single blocks with the first half of the MLP; scale and
shift of the last norm are in the other order.
"""

import re
from collections.abc import Mapping

from maquette.errors import MaquetteError
from maquette.formats.topology import shape_of
from maquette.formats.transformers.parts import Part, taken_apart
from maquette.foundation.weights import Shape, Weights

_PREFIX, _MARK = "model.diffusion_model.", "double_blocks.0.img_attn.qkv.weight"

_PLAIN = (
    (r"img_in\.", "x_embedder."),
    (r"txt_in\.", "context_embedder."),
    (r"time_in\.in_layer\.", "time_text_embed.timestep_embedder.linear_1."),
    (r"time_in\.out_layer\.", "time_text_embed.timestep_embedder.linear_2."),
    (r"vector_in\.in_layer\.", "time_text_embed.text_embedder.linear_1."),
    (r"vector_in\.out_layer\.", "time_text_embed.text_embedder.linear_2."),
    (r"guidance_in\.in_layer\.", "time_text_embed.guidance_embedder.linear_1."),
    (r"guidance_in\.out_layer\.", "time_text_embed.guidance_embedder.linear_2."),
    (r"final_layer\.linear\.", "proj_out."),
    (r"pos_embed_input\.", "controlnet_x_embedder."),
    (r"(controlnet_blocks\.\d+\.)", r"\1"),
    (r"input_hint_block\.0\.", "input_hint_block.conv_in."),
    (r"input_hint_block\.14\.", "input_hint_block.conv_out."),
    (r"double_blocks\.(\d+)\.img_mod\.lin\.", r"transformer_blocks.\1.norm1.linear."),
    (r"double_blocks\.(\d+)\.txt_mod\.lin\.", r"transformer_blocks.\1.norm1_context.linear."),
    (r"double_blocks\.(\d+)\.img_attn\.proj\.", r"transformer_blocks.\1.attn.to_out.0."),
    (r"double_blocks\.(\d+)\.txt_attn\.proj\.", r"transformer_blocks.\1.attn.to_add_out."),
    (r"double_blocks\.(\d+)\.img_attn\.norm\.query_norm\.scale", r"transformer_blocks.\1.attn.norm_q.weight"),
    (r"double_blocks\.(\d+)\.img_attn\.norm\.key_norm\.scale", r"transformer_blocks.\1.attn.norm_k.weight"),
    (r"double_blocks\.(\d+)\.txt_attn\.norm\.query_norm\.scale", r"transformer_blocks.\1.attn.norm_added_q.weight"),
    (r"double_blocks\.(\d+)\.txt_attn\.norm\.key_norm\.scale", r"transformer_blocks.\1.attn.norm_added_k.weight"),
    (r"double_blocks\.(\d+)\.img_mlp\.0\.", r"transformer_blocks.\1.ff.net.0.proj."),
    (r"double_blocks\.(\d+)\.img_mlp\.2\.", r"transformer_blocks.\1.ff.net.2."),
    (r"double_blocks\.(\d+)\.txt_mlp\.0\.", r"transformer_blocks.\1.ff_context.net.0.proj."),
    (r"double_blocks\.(\d+)\.txt_mlp\.2\.", r"transformer_blocks.\1.ff_context.net.2."),
    (r"single_blocks\.(\d+)\.modulation\.lin\.", r"single_transformer_blocks.\1.norm.linear."),
    (r"single_blocks\.(\d+)\.norm\.query_norm\.scale", r"single_transformer_blocks.\1.attn.norm_q.weight"),
    (r"single_blocks\.(\d+)\.norm\.key_norm\.scale", r"single_transformer_blocks.\1.attn.norm_k.weight"),
    (r"single_blocks\.(\d+)\.linear2\.", r"single_transformer_blocks.\1.proj_out."),
)
"""Tensors that are the same under both names, by the beginning of the original one."""

_THIRDS = {
    r"double_blocks\.(\d+)\.img_attn\.qkv\.": [
        rf"transformer_blocks.\1.attn.{part}." for part in ("to_q", "to_k", "to_v")
    ],
    r"double_blocks\.(\d+)\.txt_attn\.qkv\.": [
        rf"transformer_blocks.\1.attn.{part}." for part in ("add_q_proj", "add_k_proj", "add_v_proj")
    ],
    r"single_blocks\.(\d+)\.linear1\.": [
        rf"single_transformer_blocks.\1.{part}." for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    ],
}
"""Tensors that are several here: queries, keys and values of one width, then, where there is a fourth, the rest."""


def is_original(names: Mapping[str, object]) -> bool:
    """Whether tensors have original names, of a network alone or below "model.diffusion_model."."""
    return _MARK in names or _PREFIX + _MARK in names


def diffusers_names(weights: Weights) -> Weights:
    """Tensors under diffusers' names, read lazily.

    Raises `MaquetteError` for a tensor without one, and for one of a shape that does not divide.
    """
    own = weights.below(_PREFIX) if _PREFIX + _MARK in weights else weights
    width = shape_of(own.shapes, _MARK, "Flux", 2)[-1]
    parts: dict[str, Part] = {}
    for stored, shape in own.shapes.items():
        parts.update(_parts(stored, shape, width, own))
    return taken_apart(own, parts)


def _parts(stored: str, shape: Shape, width: int, weights: Weights) -> dict[str, Part]:
    """The tensors that an original one of this shape becomes, by diffusers' name."""
    rows = shape[0] if shape else 0
    if stored.startswith("final_layer.adaLN_modulation.1."):
        return {stored.replace("final_layer.adaLN_modulation.1.", "norm_out.linear."): Part(stored, 0, rows, True)}
    for pattern, names in _THIRDS.items():
        if found := re.match(pattern, stored):
            ends = [width, 2 * width, 3 * width, rows][: len(names)]
            if rows < ends[-2] + 1 or (len(names) == 3 and rows != 3 * width):
                raise MaquetteError(
                    f"{stored!r} in {str(weights.source)!r} has the shape {shape}, which holds no queries, keys and "
                    f"values of width {width}; fetch it anew."
                )
            rest, starts = stored[found.end() :], [0, *ends]
            return {
                found.expand(name) + rest: Part(stored, start, end - start)
                for name, start, end in zip(names, starts, ends, strict=False)
            }
    return {_renamed(stored, weights): Part(stored, 0, rows)}


def _renamed(stored: str, weights: Weights) -> str:
    hint = re.match(r"input_hint_block\.(\d+)\.", stored)
    if hint and 0 < int(hint[1]) < 14:
        return f"input_hint_block.blocks.{int(hint[1]) // 2 - 1}.{stored[hint.end() :]}"
    for pattern, name in _PLAIN:
        if found := re.match(pattern, stored):
            return found.expand(name) + stored[found.end() :]
    raise MaquetteError(f"{stored!r} in {str(weights.source)!r} is no part of a Flux; fetch it anew.")
