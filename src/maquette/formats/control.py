"""A ControlNet's weights in any published format, under diffusers' names. The format follows from the tensor names.

| format | tensor names |
| --- | --- |
| diffusers | controlnet_down_blocks.0.weight |
| original | control_model.zero_convs.0.0.weight; with a whole base in v1.0, alone in v1.1 |
| bare | zero_convs.0.0.weight |
| difference | as original or bare, and a tensor `difference`: copied weights minus the base's |
| control-lora | as bare, and a tensor `lora_controlnet`: copied weights as low-rank updates (.up, .down) |
"""

import math
from typing import Literal

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.formats import union
from maquette.formats.transformers import zimage
from maquette.formats.transformers.known import KNOWN, of_control
from maquette.formats.unet_names import UnknownNameError, to_diffusers, to_original
from maquette.foundation.devices import DTYPES
from maquette.foundation.weights import Weights

Format = Literal["diffusers", "original", "bare", "difference", "control-lora"]
RELATIVE: tuple[Format, ...] = ("difference", "control-lora")  # to the weights of a base

PREFIX = "control_model."
DTYPE = "maquette.dtype"  # metadata of a difference: dtype of the sum with the base
NOT_COPIED = (
    "controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.", *union.NOT_COPIED,
    *(prefix for known in KNOWN for prefix in known.NOT_COPIED),
)  # fmt: skip
"""Prefixes of weights that only a ControlNet has: its zero convolutions and its condition encoder."""


def recognise(weights: Weights) -> Format | None:
    """The format of a ControlNet; None if the weights hold none."""
    if "lora_controlnet" in weights:
        return "control-lora"
    if "difference" in weights:
        return "difference"
    if "controlnet_down_blocks.0.weight" in weights:
        return "diffusers"
    if "zero_convs.0.0.weight" in weights:
        return "bare"
    return "original" if f"{PREFIX}zero_convs.0.0.weight" in weights else None


def read_control(weights: Weights, base: Weights | None = None) -> Weights:
    """A ControlNet's tensors under diffusers' names, loaded lazily.

    Args:
        base: the base's encoder under diffusers' names, for formats relative to it.

    Raises `MaquetteError` if the weights hold no ControlNet, or the base is missing or does not match.
    """
    format_ = recognise(weights)
    made_for = of_control(weights)
    if format_ is None and made_for is not None:
        raise MaquetteError(
            f"The ControlNet in {str(weights.source)!r} is made for {made_for.NAME}, a transformer, and this base is a "
            "U-Net; load the base that it was trained on."
        )
    if format_ is None:
        examples = ", ".join(repr(name) for name in list(weights)[:3])
        raise MaquetteError(
            f"{str(weights.source)!r} holds no ControlNet: its tensors ({examples}, ...) have the names of no known "
            "format; give a file or folder of a ControlNet."
        )
    if format_ == "control-lora":
        return _from_ranks(_bare(weights), _required(base, weights, format_))
    renamed = read_names(weights)
    return _from_difference(renamed, _required(base, weights, format_)) if format_ == "difference" else renamed


def read_names(weights: Weights) -> Weights:
    """The tensors of a file under diffusers' names, values unchanged; not for Control-LoRA."""
    if recognise(weights) == "diffusers":
        return weights
    bare = _bare(weights)
    return bare.renamed({name: _to_diffusers(name, bare) for name in bare if name != "difference"})


def _bare(weights: Weights) -> Weights:
    return weights.below(PREFIX) if any(name.startswith(PREFIX) for name in weights) else weights


def _to_diffusers(name: str, weights: Weights) -> str:
    try:
        return to_diffusers(name)
    except UnknownNameError as error:
        raise MaquetteError(f"{name!r} in {str(weights.source)!r} is not part of a ControlNet.") from error


def _required(base: Weights | None, weights: Weights, format_: Format) -> Weights:
    if base is None:
        raise MaquetteError(f"{str(weights.source)!r} ({format_}) is relative to a base; give the base.")
    return base


def check_copied(control: Weights, base: Weights) -> None:
    """Check that a base has every weight that a ControlNet copies, in the same shape.

    Raises `MaquetteError` if it does not.
    """
    for name, shape in control.shapes.items():
        if not name.startswith(NOT_COPIED) and base.shapes.get(name) != shape:
            raise MaquetteError(
                f"{str(control.source)!r} does not belong to the base {str(base.source)!r}: {name!r} has the shape "
                f"{shape} in one and {base.shapes.get(name, 'is missing')} in the other; give the base it was made for."
            )


def _from_difference(difference: Weights, base: Weights) -> Weights:
    """W_base + difference for copied weights, added in double precision so that nothing is lost."""
    check_copied(difference, base)

    def read(name: str) -> Tensor:
        """In the same shape as the base's."""
        if name.startswith(NOT_COPIED):
            return difference[name]
        return (base[name].cpu().double() + difference[name].double()).to(dtype or base[name].dtype)

    dtype = DTYPES.get(difference.metadata.get(DTYPE, ""))
    return Weights(difference.source, difference.shapes, read, difference.metadata)


def _from_ranks(bare: Weights, base: Weights) -> Weights:
    """W_base + up · down, kernels flattened; weights missing from the file are the base's."""
    full = bare.renamed({name: _to_diffusers(name, bare) for name in bare if name.endswith((".weight", ".bias"))})
    ranks = {_to_diffusers(name, bare).replace(".up", ".weight"): name for name in bare if name.endswith(".up")}
    if foreign := {name for name in {*full, *ranks} if not name.startswith(NOT_COPIED)} - set(base):
        raise MaquetteError(
            f"{str(bare.source)!r} changes {min(foreign)!r}, which the base {str(base.source)!r} does not have; give "
            "the base it was made for."
        )
    for name, stem in ranks.items():
        up, down = bare.shapes[stem], bare.shapes.get(stem.removesuffix("up") + "down", ())
        of_base = base.shapes.get(name, ())
        if not (up and down and of_base) or math.prod(up[1:]) != down[0]:
            raise MaquetteError(f"{str(bare.source)!r} holds no update of {name!r} in two factors; fetch it anew.")
        if (up[0], math.prod(down[1:])) != (of_base[0], math.prod(of_base[1:])):
            raise MaquetteError(
                f"{str(bare.source)!r} changes {name!r} as {up[0]} × {math.prod(down[1:])}, but in the base "
                f"{str(base.source)!r} it has the shape {of_base}; give the base it was made for."
            )
    shapes = {**base.shapes, **full.shapes}

    def read(name: str) -> Tensor:
        """up (o, r, ...) times down (r, i, ...), in the same shape as the base's."""
        if name in full:
            return full[name]
        if name not in ranks:
            return base[name].cpu()
        up, down = bare[ranks[name]], bare[ranks[name].removesuffix("up") + "down"]
        change = up.flatten(1).float() @ down.flatten(1).float()
        return (base[name].cpu().float() + change.reshape(base.shapes[name])).to(base[name].dtype)

    return Weights(bare.source, shapes, read, bare.metadata)


def transferred(control: Weights, old: Weights, new: Weights) -> Weights:
    """A ControlNet transferred to another base: W + W_new − W_old for copied weights; zero convolutions and condition
    encoder stay the same.
    """
    for base in (old, new):
        check_copied(control, base)

    def read(name: str) -> Tensor:
        """In the same shape as the ControlNet's."""
        weight = control[name]
        if name.startswith(NOT_COPIED):
            return weight
        return (weight.double() + (new[name].cpu().double() - old[name].cpu().double())).to(weight.dtype)

    return Weights(control.source, control.shapes, read, control.metadata)


def as_original(control: Weights) -> Weights:
    """From diffusers' names to the original ones with "control_model." in front; some families' are diffusers'.

    Raises `MaquetteError` for weights without an original name.
    """
    if union.holds_union(control) or zimage.holds_control(control):
        return control
    return control.renamed({name: _original(name, control) for name in control})


def _original(name: str, control: Weights) -> str:
    try:
        return PREFIX + to_original(name, frozenset())
    except UnknownNameError as error:
        raise MaquetteError(
            f"{name!r} in {str(control.source)!r} has no name in the original layout, which covers published "
            "ControlNets only; keep it in diffusers' format."
        ) from error


def as_difference(control: Weights, base: Weights) -> Weights:
    """Copied weights minus the base's, with original names and the marker tensor; can be undone bitwise.

    Raises `MaquetteError` for a base that does not match, mixed dtypes, or weights without an exact difference.
    """
    check_copied(control, base)
    names = {_original(name, control): name for name in control}
    dtypes = {control[name].dtype for name in control if not name.startswith(NOT_COPIED)}
    if len(dtypes) > 1:
        raise MaquetteError(
            f"{str(control.source)!r} mixes precisions; a difference has only one. Convert to 'original'."
        )

    def read(original: str) -> Tensor:
        """In the same shape as the ControlNet's; the marker is a scalar."""
        if original == "difference":
            return torch.ones(())
        name = names[original]
        return control[name] if name.startswith(NOT_COPIED) else _difference(control[name], base[name], control, name)

    shapes = {"difference": (), **{original: control.shapes[name] for original, name in names.items()}}
    metadata = {**control.metadata, DTYPE: str(dtypes.pop()).removeprefix("torch.")}
    return Weights(control.source, shapes, read, metadata)


def _difference(value: Tensor, base: Tensor, control: Weights, name: str) -> Tensor:
    """value − base, of the same shape, in the narrowest dtype whose sum with the base restores `value` bitwise."""
    wide, exact = base.cpu().double(), value.double() - base.cpu().double()
    for dtype in dict.fromkeys((value.dtype, torch.float32, torch.float64)):
        rounded = exact.to(dtype)
        if torch.equal((wide + rounded.double()).to(value.dtype), value):
            return rounded
    raise MaquetteError(
        f"{name!r} in {str(control.source)!r} is so far from the base's that no difference restores it exactly; "
        "convert to 'original' instead."
    )
