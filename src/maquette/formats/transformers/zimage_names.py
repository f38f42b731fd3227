"""Z-Image's tensors under their original names, as in ComfyUI's files, translated to diffusers'.

Queries, keys and values are one tensor there and three here.
"""

from collections.abc import Mapping

from maquette.errors import MaquetteError
from maquette.formats.transformers.parts import Part, taken_apart
from maquette.foundation.weights import Weights

_PREFIX, _MARKS = "model.diffusion_model.", ("layers.0.attention.qkv.weight", "layers.0.adaLN_modulation.0.weight")
_QKV = ".attention.qkv.weight"
_RENAMED = {
    ".attention.out.": ".attention.to_out.0.",
    ".attention.q_norm.": ".attention.norm_q.",
    ".attention.k_norm.": ".attention.norm_k.",
}
_FIRST = {"x_embedder.": "all_x_embedder.2-1.", "final_layer.": "all_final_layer.2-1."}
_UNUSED = "norm_final.weight"


def is_original(names: Mapping[str, object]) -> bool:
    """Whether tensors have original names, of a network alone or below "model.diffusion_model."."""
    return any(all(prefix + mark in names for mark in _MARKS) for prefix in ("", _PREFIX))


def diffusers_names(weights: Weights) -> Weights:
    """Tensors under diffusers' names, read lazily.

    Raises `MaquetteError` for queries, keys and values that are not of one size.
    """
    own = weights.below(_PREFIX) if _PREFIX + _MARKS[0] in weights else weights
    parts: dict[str, Part] = {}
    for stored, shape in own.shapes.items():
        if stored == _UNUSED:
            continue
        if not stored.endswith(_QKV):
            parts[_renamed(stored)] = Part(stored, 0, shape[0] if shape else 0)
            continue
        if shape[0] % 3:
            raise MaquetteError(
                f"{stored!r} in {str(weights.source)!r} has the shape {shape}, which holds no queries, keys and values "
                "of one size; fetch it anew."
            )
        third, block = shape[0] // 3, stored.removesuffix(_QKV)
        for number, name in enumerate(("to_q", "to_k", "to_v")):
            parts[f"{block}.attention.{name}.weight"] = Part(stored, number * third, third)
    return taken_apart(own, parts)


def _renamed(stored: str) -> str:
    for theirs, ours in _FIRST.items():
        if stored.startswith(theirs):
            return ours + stored.removeprefix(theirs)
    for theirs, ours in _RENAMED.items():
        stored = stored.replace(theirs, ours)
    return stored
