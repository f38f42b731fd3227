"""A ControlNet's weights in any published format, under diffusers' names. Which format it is, its names say.

| format | its names |
| --- | --- |
| diffusers | controlnet_down_blocks.0.weight |
| original | control_model.zero_convs.0.0.weight; beside a whole base in v1.0, alone in v1.1 |
| bare | zero_convs.0.0.weight |
| difference | as original or bare, and a tensor `difference`: copied weights less the base's they were copied from |
| control-lora | as bare, and a tensor `lora_controlnet`: copied weights as low ranks (.up, .down) on the base's |
"""

import math
from typing import Literal

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.formats.unet_names import UnknownNameError, to_diffusers, to_original
from maquette.foundation.devices import DTYPES
from maquette.foundation.weights import Weights

Format = Literal["diffusers", "original", "bare", "difference", "control-lora"]

PREFIX = "control_model."
DTYPE = "maquette.dtype"  # metadata of a difference: what its sums were rounded to
OWN = ("controlnet_down_blocks.", "controlnet_mid_block.", "controlnet_cond_embedding.")
"""What a ControlNet has and no base: its connections and its condition encoder."""


def recognise(weights: Weights) -> Format | None:
    """The format of a ControlNet; None when the weights hold none."""
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
    """A ControlNet's tensors under diffusers' names, still unread.

    Args:
        base: the base's encoder under diffusers' names, for formats that are told relative to it.

    Raises `MaquetteError` when there is no ControlNet in the weights.
    """
    kind = recognise(weights)
    if kind is None:
        some = ", ".join(repr(name) for name in list(weights)[:3])
        raise MaquetteError(
            f"{str(weights.source)!r} holds no ControlNet: its tensors ({some}, ...) have the names of no known format."
        )
    if kind == "control-lora":
        return _from_ranks(_bare(weights), _needed(base, weights, kind))
    named = read_names(weights)
    return _from_difference(named, _needed(base, weights, kind)) if kind == "difference" else named


def read_names(weights: Weights) -> Weights:
    """All tensors as they are in the file, under diffusers' names; not for Control-LoRA's ranks."""
    if recognise(weights) == "diffusers":
        return weights
    bare = _bare(weights)
    return bare.renamed({name: _known(name, bare) for name in bare if name != "difference"})


def _bare(weights: Weights) -> Weights:
    return weights.below(PREFIX) if any(name.startswith(PREFIX) for name in weights) else weights


def _known(name: str, weights: Weights) -> str:
    try:
        return to_diffusers(name)
    except UnknownNameError as error:
        raise MaquetteError(f"{name!r} in {str(weights.source)!r} is no part of a ControlNet.") from error


def _needed(base: Weights | None, weights: Weights, kind: Format) -> Weights:
    if base is None:
        raise MaquetteError(f"{str(weights.source)!r} ({kind}) is told relative to a base; give the base.")
    return base


def check_copied(control: Weights, base: Weights) -> None:
    """Every weight that a ControlNet copied must stand in the base, in the same shape."""
    for name, shape in control.shapes.items():
        if not name.startswith(OWN) and base.shapes.get(name) != shape:
            raise MaquetteError(
                f"{str(control.source)!r} does not belong to the base {str(base.source)!r}: {name!r} has the shape "
                f"{shape} in one and {base.shapes.get(name, 'no place')} in the other; give the base it was made for."
            )


def _from_difference(named: Weights, base: Weights) -> Weights:
    """W_base + difference for what was copied, added in double precision so that nothing is lost."""
    check_copied(named, base)

    def read(name: str) -> Tensor:
        if name.startswith(OWN):
            return named[name]
        return (base[name].cpu().double() + named[name].double()).to(dtype or base[name].dtype)

    dtype = DTYPES.get(named.metadata.get(DTYPE, ""))
    return Weights(named.source, named.shapes, read, named.metadata)


def _from_ranks(bare: Weights, base: Weights) -> Weights:
    """W_base + up · down, kernels flattened; what the file has no word about is the base's."""
    given = bare.renamed({name: _known(name, bare) for name in bare if name.endswith((".weight", ".bias"))})
    ranks = {_known(name, bare).replace(".up", ".weight"): name for name in bare if name.endswith(".up")}
    if foreign := {name for name in {*given, *ranks} if not name.startswith(OWN)} - set(base):
        raise MaquetteError(
            f"{str(bare.source)!r} changes {min(foreign)!r}, which the base {str(base.source)!r} does not have; give "
            "the base it was made for."
        )
    for name, stem in ranks.items():
        rows, columns = bare.shapes[stem][0], math.prod(bare.shapes[stem.removesuffix("up") + "down"][1:])
        if (rows, columns) != (base.shapes[name][0], math.prod(base.shapes[name][1:])):
            raise MaquetteError(
                f"{str(bare.source)!r} changes {name!r} as {rows} × {columns}, which the base {str(base.source)!r} has "
                f"in the shape {base.shapes[name]}; give the base it was made for."
            )
    shapes = {**base.shapes, **given.shapes}

    def read(name: str) -> Tensor:
        if name in given:
            return given[name]
        if name not in ranks:
            return base[name].cpu()
        up, down = bare[ranks[name]], bare[ranks[name].removesuffix("up") + "down"]
        change = up.flatten(1).float() @ down.flatten(1).float()
        return (base[name].cpu().float() + change.reshape(base.shapes[name])).to(base[name].dtype)

    return Weights(bare.source, shapes, read, bare.metadata)


def transferred(control: Weights, old: Weights, new: Weights) -> Weights:
    """Moved to another base: what was copied takes part in what sets the bases apart, W + W_new − W_old; the
    connections and the condition encoder stay."""
    for base in (old, new):
        check_copied(control, base)

    def read(name: str) -> Tensor:
        own = control[name]
        if name.startswith(OWN):
            return own
        return (own.double() + (new[name].cpu().double() - old[name].cpu().double())).to(own.dtype)

    return Weights(control.source, control.shapes, read, control.metadata)


def as_original(control: Weights) -> Weights:
    """diffusers' names → "control_model." and the original ones."""
    return control.renamed({name: _original(name, control) for name in control})


def _original(name: str, control: Weights) -> str:
    try:
        return PREFIX + to_original(name, frozenset())
    except UnknownNameError as error:
        raise MaquetteError(
            f"{name!r} in {str(control.source)!r} has no name in the original layout, which knows published "
            "ControlNets alone; keep it in diffusers' format."
        ) from error


def as_difference(control: Weights, base: Weights) -> Weights:
    """Copied weights less the base's, original names, the marker beside them; to be undone bitwise."""
    check_copied(control, base)
    named = {_original(name, control): name for name in control}
    dtypes = {control[name].dtype for name in control if not name.startswith(OWN)}
    if len(dtypes) > 1:
        raise MaquetteError(f"{str(control.source)!r} mixes precisions; a difference has one. Convert to 'original'.")

    def read(name: str) -> Tensor:
        if name == "difference":
            return torch.ones(())
        own = named[name]
        return control[own] if own.startswith(OWN) else _difference(control[own], base[own], control, own)

    shapes = {"difference": (), **{name: control.shapes[own] for name, own in named.items()}}
    metadata = {**control.metadata, DTYPE: str(dtypes.pop()).removeprefix("torch.")}
    return Weights(control.source, shapes, read, metadata)


def _difference(value: Tensor, base: Tensor, control: Weights, name: str) -> Tensor:
    """In the narrowest precision from which the sum with the base gives `value` back, bit by bit."""
    wide, exact = base.cpu().double(), value.double() - base.cpu().double()
    for dtype in dict.fromkeys((value.dtype, torch.float32, torch.float64)):
        told = exact.to(dtype)
        if torch.equal((wide + told.double()).to(value.dtype), value):
            return told
    raise MaquetteError(
        f"{name!r} in {str(control.source)!r} is so far from the base's that no difference gives it back; "
        "convert to 'original' instead."
    )
