"""From OpenCLIP's names of a text encoder's weights (Stable Diffusion 2.x, the second of XL) to transformers' names.

CLIP itself (1.x, the first of XL) has the same names in both. OpenCLIP stores query, key and value in one matrix, and
its projection transposed.
"""

import re
from collections.abc import Iterator

from torch import Tensor

_TOP = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "text_projection": "text_projection.weight",
}
_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_THREE = ("q_proj", "k_proj", "v_proj")


def from_openclip(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """transformers' tensors by name for an OpenCLIP tensor: one, three of (D, ...) out of (3D, ...), or none.

    Raises `ValueError` for a tensor of a layer, or a projection, that is none of OpenCLIP's.
    """
    if name == "text_projection" and value.ndim != 2:
        raise ValueError(f"{name!r} of the shape {tuple(value.shape)} projects nothing")
    if name in _TOP:
        yield _TOP[name], value.T if name == "text_projection" else value
        return
    found = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)\.(\w+)", name)
    if found is None:  # such as logit_scale, which diffusion models do not use
        return
    layer = f"text_model.encoder.layers.{found[1]}"
    if found[2] == "attn":  # in_proj_weight, in_proj_bias
        if not value.ndim or not value.shape[0] or value.shape[0] % 3:
            raise ValueError(f"{name!r} of the shape {tuple(value.shape)} holds no queries, keys and values")
        kind = found[3].removeprefix("in_proj_")
        for part, third in zip(_THREE, value.chunk(3), strict=True):
            yield f"{layer}.self_attn.{part}.{kind}", third
    elif found[2] not in _LAYER:
        raise ValueError(f"{name!r} is in no text encoder")
    else:
        yield f"{layer}.{_LAYER[found[2]]}.{found[3]}", value
