"""Networks made of weights: built without memory, then given their tensors one by one, each cast on its way in."""

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig

from maquette.errors import MaquetteError
from maquette.formats.vae_names import modern
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Shape, Weights, find_weights, open_weights

T = TypeVar("T", bound=nn.Module)
V = TypeVar("V")


def part_settings(folder: Path, of: str, read: Callable[[Path], V]) -> V:
    """What a part of a base says of itself; whatever its reader stumbles over becomes a sentence."""
    if not (folder / of).is_dir():
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {of!r}; fetch it anew.")
    try:
        return read(folder / of)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise MaquetteError(
            f"The {of} of the base in {str(folder)!r} cannot be read ({reason}); fetch it anew."
        ) from error


def part_weights(folder: Path, part: str) -> Weights:
    """The weights of one part of a base in diffusers' format, unread."""
    path = find_weights(folder / part)
    if path is None:
        raise MaquetteError(f"The base in {str(folder)!r} has no weights in its folder {part!r}; fetch it anew.")
    return open_weights(path)


def filled(build: Callable[[], T], weights: Weights, where: Placement) -> T:
    """A network, locked, that never holds other weights than these.

    Raises `MaquetteError` when a tensor is missing, does not belong, or has another shape.
    """
    with torch.device("meta"):
        network = build()
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    names = {_name(name, wanted): name for name in weights if not name.endswith("position_ids")}
    check_tensors(
        weights,
        names,
        wanted,
        type(network).__name__,
        foreign="fetch them anew, or give those of its family",
        misshapen="configuration and weights are of two models: fetch both anew",
    )
    state = {name: weights[own].to(*where) for name, own in names.items()}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def check_tensors(
    weights: Weights, names: Mapping[str, str], wanted: Mapping[str, Shape], kind: str, foreign: str, misshapen: str
) -> None:
    """Weights must be those of a network, no more and no less.

    Args:
        names: of the network's tensors, in the file.
        wanted: the shapes of the network's tensors.
        kind: of network, for messages.
        foreign, misshapen: what to do about tensors that do not belong, or have another shape.
    """
    missing, surplus = wanted.keys() - names.keys(), names.keys() - wanted.keys()
    source = str(weights.source)
    if missing or surplus:
        raise MaquetteError(
            f"The weights in {source!r} lack {len(missing)} tensors of a {kind} and have {len(surplus)} that do not "
            f"belong (the first: {min(missing | surplus)!r}); {foreign}."
        )
    for name, own in names.items():
        if weights.shapes[own] != wanted[name]:
            raise MaquetteError(
                f"{own!r} in {source!r} has the shape {weights.shapes[own]}, a {kind} wants {wanted[name]}; "
                f"{misshapen}."
            )


def _name(own: str, wanted: Container[str]) -> str:
    """The network's name for a tensor: with "text_model." or without, by the version of transformers."""
    known = (name for name in (own, own.removeprefix("text_model."), f"text_model.{own}") if name in wanted)
    return next(known, own)


def filled_clip(kind: Any, config: CLIPTextConfig, weights: Weights, where: Placement) -> Any:
    """A text encoder; its position ids, which no file needs to hold, are counted out."""
    encoder = filled(lambda: kind(config), weights, where)
    for name, buffer in list(encoder.named_buffers()):
        home, _, own = name.rpartition(".")
        ids = torch.arange(buffer.shape[-1], device=where.device)[None]
        encoder.get_submodule(home).register_buffer(own, ids, persistent=False)
    return encoder


def filled_vae(config: Mapping[str, Any], weights: Weights, where: Placement) -> AutoencoderKL:
    """An autoencoder; in float32 where the base is float16 and it would overflow (XL's says so)."""
    if where.dtype == torch.float16 and config.get("force_upcast", True):
        where = Placement(where.device, torch.float32)
    renamed = weights.renamed({name: modern(name) for name in weights})
    return filled(lambda: AutoencoderKL.from_config(dict(config)), renamed, where)
