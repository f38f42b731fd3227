"""Describing a file or folder of weights without loading it."""

import itertools
import math
import warnings
from pathlib import Path
from typing import Any

from maquette.checkpoints import controlnets
from maquette.checkpoints.bases import base_prediction, base_weights
from maquette.controlnet.contract import Contract
from maquette.controlnet.network import ControlNetConfig
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats import topology, union
from maquette.formats.control import read_names, recognise
from maquette.formats.transformers.known import of_control, of_network
from maquette.formats.transformers.sd3 import blocks
from maquette.foundation.weights import Weights
from maquette.noise.process import Prediction


def info(name: str | Path, prediction: Prediction | None = None) -> str:
    """A description of a base or ControlNet: family, slots, parameters, precision, and a ControlNet's contract.

    Args:
        prediction: what a base in a file predicts, as for `load_base`.

    Raises `MaquetteError` if it is neither, and for a base that says it predicts something else.
    """
    try:
        path = controlnets.find_controlnet(name)
    except MaquetteError:
        path = Path(name)  # perhaps a base
    if controlnets.weights_path(path).is_file():
        config, weights = controlnets.opened(path)
        describe = _BY_ITSELF.get(ControlNetConfig.read(config or {}).variant)
        if describe or recognise(weights) is not None or of_control(weights) is not None:
            if prediction is not None:
                warnings.warn(f"prediction has no effect: {str(name)!r} is no base.", MaquetteWarning, stacklevel=2)
            described = union.completed(config or {}, weights)
            return (describe or _controlnet)(path, described, weights)
    return _base(str(name), base_weights(name), base_prediction(name, prediction))


def _controlnet(path: Path, config: dict[str, Any], weights: Weights) -> str:
    format_ = recognise(weights) or "diffusers"
    lines = [f"{path}: a ControlNet, format {format_}"]
    if ControlNetConfig.read(config).variant == "lite":
        lines.append("lite: convolutions instead of copied blocks")
    elif format_ == "control-lora":
        lines.append("copied weights as low-rank updates of the base's: load it with the base it was made for")
    else:
        if format_ == "difference":
            lines.append("copied weights minus the base's: load it with any base of its family")
        transformer = of_control(weights)
        named = transformer.as_diffusers(weights) if transformer else read_names(weights)
        lines += _network(named.shapes, weights)
    return "\n".join([*lines, *_contract(controlnets.read_contract(path, config, weights.metadata))])


def _added_channels(path: Path, config: dict[str, Any], weights: Weights) -> str:
    lines = [f"{path}: added channels, a whole network that takes the condition beside the latents"]
    contract = _contract(controlnets.read_contract(path, config, weights.metadata))
    return "\n".join([*lines, *_network(weights.shapes, weights), *contract])


def _in_context(path: Path, config: dict[str, Any], weights: Weights) -> str:
    lines = [
        f"{path}: control in context, low-rank weights with which a base reads the condition's tokens",
        f"rank        {config.get('rank')}, in {blocks(weights.shapes)} blocks",
        _parameters(weights.shapes, weights),
    ]
    return "\n".join([*lines, *_contract(controlnets.read_contract(path, config, weights.metadata))])


_BY_ITSELF = {"channels": _added_channels, "context": _in_context}


def _base(name: str, unet: Weights, prediction: str | None) -> str:
    told = prediction or "not told: epsilon as 2.1-base or v_prediction as 2.1, which loading it needs (--prediction)"
    return "\n".join([f"{name}: a base", *_network(unet.shapes, unet), f"predicts    {told}"])


def _network(shapes: topology.Shapes, weights: Weights) -> list[str]:
    kind, slots = _kind(shapes)
    return [f"topology    {kind}", f"slots       {slots}", _parameters(shapes, weights)]


def _parameters(shapes: topology.Shapes, weights: Weights) -> str:
    count = sum(math.prod(shape) for shape in shapes.values())
    dtype = str(weights[max(weights.shapes, key=lambda name: math.prod(weights.shapes[name]))].dtype)
    return f"parameters  {count / 1e6:.1f} M, {dtype.removeprefix('torch.')}"


def _kind(shapes: topology.Shapes) -> tuple[str, str]:
    """A network's family with the width of its text, and its slots or blocks, in words."""
    transformer = of_network(shapes)
    if transformer is not None:
        return transformer.summary(shapes)
    channels = topology.slot_channels(shapes)
    slots = " ".join(f"{width}×{len(list(same))}" for width, same in itertools.groupby(channels))
    return f"{_family(shapes)}, text {_text_width(shapes)} wide", f"{len(channels)}: {slots}"


def _family(shapes: topology.Shapes) -> str:
    """A published family, or the one whose layout another model has."""
    family = topology.family(shapes)
    return family if _text_width(shapes) == topology.TEXT_WIDTHS[family] else f"laid out as {family}"


def _text_width(shapes: topology.Shapes) -> int:
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
    return topology.shape_of(shapes, name, "Stable Diffusion", 2)[1]


def _contract(contract: Contract) -> list[str]:
    if not contract.stated:
        lines = ["contract    none: taken as published, condition in [0, 1], RGB"]
        lines += [f"types       {', '.join(contract.types)}"] if contract.types else []
        return [*lines, "            pooled (shuffle)"] if contract.pooled else lines
    lines = [
        f"{name.replace('_', ' '):<17} {', '.join(value) if name == 'types' else value}"
        for name, value in contract.to_json().items()
        if name != "base_fingerprint"
    ]
    return ["contract", *(f"  {line}" for line in lines)]
