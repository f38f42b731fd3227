"""From a request to the arguments of `generate`: pictures are decoded, sized, and become condition maps."""

from collections.abc import Callable, Mapping
from typing import Any

from maquette.conditions.detect import Detector
from maquette.conditions.registry import detectors
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.foundation.images import as_mask
from maquette.studio.frames import detected, padded, read_map, sized, sized_mask
from maquette.studio.networks import Studio
from maquette.studio.pictures import Picture
from maquette.studio.requests.fields import about, within
from maquette.studio.requests.layer import Layer
from maquette.studio.requests.request import Request

Open = Callable[[str], Detector]
"""A detector by name. Raises `MaquetteError` if it cannot be loaded."""


def controls_of(request: Request, studio: Studio, offered: Mapping[str, str], opened: Open) -> list[Control]:
    """A control for each layer, its map at the size of the pictures.

    Args:
        offered: as for `Layer.net_name`.

    Raises `MaquetteError` for a picture that is broken, and for networks that cannot be loaded.
    """
    found = []
    for number, layer in enumerate(request.layers):
        with within(f"layers.{number}"):
            found.append(_control(layer, request, studio, studio.net(layer.net_name(offered)), opened))
    return found


def settings_of(request: Request, studio: Studio) -> dict[str, Any]:
    """Keyword arguments of `generate` besides the prompt and the controls, for the first of the pictures.

    Raises `MaquetteError` for a picture that is broken.
    """
    size, image = size_of(request, studio), None
    if request.image is not None:
        with about("image"):
            image = padded(sized(request.image.image(), size, request.fit), size)
    return {
        "negative_prompt": request.negative_prompt,
        "steps": request.steps,
        "guidance": request.guidance,
        "distilled_guidance": request.distilled_guidance,
        "sampler": request.sampler,
        "speed": request.speed,
        "guidance_interval": request.guidance_interval,
        "reuse": request.reuse,
        "decoder": request.decoder,
        "condition_in": request.condition_in,
        "resolution_weights": request.resolution_weights,
        "strength": request.strength,
        "feather": request.feather,
        "size": size,
        "image": image,
        "mask": _mask(request.mask, request, size, "mask"),
        "seed": request.seed,
    }


def size_of(request: Request, studio: Studio) -> tuple[int, int]:
    """(width, height) of the pictures: as requested, or the base's."""
    return request.size or (studio.base.size, studio.base.size)


def _control(layer: Layer, request: Request, studio: Studio, net: ControlNet, opened: Open) -> Control:
    size, name = size_of(request, studio), layer.detector(studio.base.name)
    if name is None:
        source = layer.picture.file()
        image, kind = read_map(source, layer.picture.name, layer.condition, net.contract, layer.palette)
        map_ = sized(image, size, request.fit, kind)
    else:
        net.contract.check_detector(name, detectors)
        map_ = detected(opened(name), layer.picture.image(), size, request.fit, net.contract, **layer.options)
    return Control(
        net,
        padded(map_, size),
        layer.weight,
        layer.start,
        layer.end,
        mask=_mask(layer.mask, request, size, "mask"),
        balance=layer.balance,
        curve=None if layer.curve is None else [(done, factor) for done, factor in layer.curve],
        branch=layer.branch,
        type=layer.condition if net.control.types else None,
    )


def _mask(mask: Picture | None, request: Request, size: tuple[int, int], name: str) -> Any:
    if mask is None:
        return None
    with about(name):
        return sized_mask(mask.image(as_mask), size, request.fit)
