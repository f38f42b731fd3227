"""Converting a ControlNet between formats, or moving it to another base, one tensor at a time."""

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maquette.backbones.protocol import Backbone
from maquette.checkpoints import controlnets
from maquette.checkpoints.bases import base_weights, load_base
from maquette.checkpoints.controlnets import KEPT_CONFIG
from maquette.checkpoints.families import DEFAULT, family_of_controlnet
from maquette.checkpoints.names import TargetFormat, check_conversion
from maquette.controlnet.contract import METADATA, OURS, Contract, fingerprint, ours
from maquette.controlnet.network import ControlNetConfig
from maquette.controlnet.save import WEIGHTS, own_layout, write_config
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats import topology, union
from maquette.formats.control import (
    NOT_COPIED,
    RELATIVE,
    as_difference,
    as_original,
    read_control,
    recognise,
    transferred,
)
from maquette.formats.transformers.known import of_control
from maquette.formats.write import PICKLED, write_weights
from maquette.foundation.weights import Weights
from maquette.noise.process import Prediction
from maquette.text.conditioning import Conditioning


def convert(
    source: str | Path, target: str | Path, to: TargetFormat, base: str | Path | None = None, heads: int | None = None
) -> Path:
    """Write a ControlNet in another format; returns its path.

    Args:
        source: bundled, a folder in diffusers' format, a file in any format (`formats.control`), or on the Hub.
        target: a folder for "diffusers"; a file for "original" and "difference": safetensors, or torch's format if its
            name ends in .pth, .pt, .ckpt or .bin.
        base: the base that a difference or a Control-LoRA is relative to, as for `load_base`.
        heads: of each attention layer, for a file that does not say it and whose number is not as published.

    Raises `MaquetteError` for a source that is not a ControlNet or has parts that no other program knows, and for a
    base that is missing or does not match it.
    """
    check_conversion(str(source), to, base)
    source, target = controlnets.find_controlnet(source), Path(target)
    locked = base_weights(base) if base is not None else None
    kept, weights = controlnets.opened(source)
    kept = kept and union.completed(kept, weights)
    _refuse_own_layout(source, kept)
    control = _read(weights, locked and encoder_weights(locked))
    if heads is not None and kept is not None:
        warnings.warn(f"heads has no effect: {str(source)!r} says how many.", MaquetteWarning, stacklevel=2)
    elif heads is not None:
        kept = describe(control, heads)
    contract = controlnets.read_contract(source, kept or {}, weights.metadata)
    metadata = _metadata(contract, kept)
    if to == "original":
        write_weights(as_original(control), target, {**control.metadata, **metadata})
    elif to == "difference":
        assert locked is not None
        difference = as_difference(control, locked)
        write_weights(difference, target, {**difference.metadata, **metadata})
    else:
        config = {**(kept or describe(control)), "global_pool_conditions": contract.pooled}
        write_weights(control, target / WEIGHTS, {**control.metadata, **metadata})
        write_config(target, {**config, "controlnet_conditioning_channel_order": contract.channel_order})
    if contract.pooled and target.suffix in PICKLED:
        warnings.warn(
            f"{str(target)!r} cannot say that its residuals are averaged (shuffle): give a name that ends in "
            f".safetensors, or put 'global_average_pooling: true' into {target.with_suffix('.yaml').name!r} beside it.",
            MaquetteWarning,
            stacklevel=2,
        )
    return target


def _refuse_own_layout(source: Path, config: dict[str, Any] | None) -> None:
    if (reason := own_layout(config or {})) is not None:
        raise MaquetteError(
            f"{str(source)!r} {reason}, for which other programs have no format; load it with maquette, or train one "
            "with variant='zero' and encoder='release'."
        )


def _read(weights: Weights, base: Weights | None) -> Weights:
    """A ControlNet's tensors under diffusers' names."""
    transformer = of_control(weights)
    return transformer.as_diffusers(weights) if transformer else read_control(weights, base)


def _metadata(contract: Contract, config: dict[str, Any] | None) -> dict[str, str]:
    """The contract if it differs from the published defaults, and the configuration, which shapes do not determine."""
    metadata = {METADATA: json.dumps(contract.to_json())} if contract != Contract() else {}
    return {**metadata, KEPT_CONFIG: json.dumps(config)} if config else metadata


def encoder_weights(unet: Weights) -> Weights:
    """The part of a U-Net that a ControlNet copies."""
    return unet.renamed(
        {name: name for name in unet if not name.startswith(("up_blocks.", "conv_norm_out.", "conv_out."))}
    )


def describe(control: Weights, heads: int | None = None) -> dict[str, Any]:
    """config.json of a `ControlNetModel`, inferred from the shapes of its weights; `heads` if not as published.

    Raises `MaquetteError` for a ControlNet whose shapes do not tell enough, such as one of Stable Diffusion 3.
    """
    shapes, transformer = control.shapes, of_control(control)
    if transformer is not None:
        return transformer.full_config(control)
    blocks = topology.count(shapes, r"controlnet_cond_embedding\.blocks\.(\d+)\.")
    layers = ("conv_in", *(f"blocks.{number}" for number in range(1, blocks, 2)))
    config = {
        "_class_name": "ControlNetModel",
        **topology.unet_config(shapes, heads=heads),
        "conditioning_channels": shapes["controlnet_cond_embedding.conv_in.weight"][1],
        "conditioning_embedding_out_channels": [
            shapes[f"controlnet_cond_embedding.{layer}.weight"][0] for layer in layers
        ],
    }
    return union.completed(config, control)


@torch.no_grad()
def largest_difference(
    first: str | Path,
    second: str | Path,
    base: str | Path | None = None,
    seed: int = 0,
    prediction: Prediction | None = None,
) -> float:
    """The largest absolute difference between the residuals of two ControlNets on the same random inputs.

    Args:
        first, second: as the source of `convert`.
        base: their base; by default a U-Net of the right shapes without values, which the residuals do not depend on.
        prediction: of a base in a file that does not say it, as for `load_base`.

    Raises `MaquetteError` for what is no ControlNet, and where a base is needed to run it.
    """
    paths = [controlnets.find_controlnet(name) for name in (first, second)]
    backbone = (
        load_base(base, "cpu", "float32", prediction=prediction).backbone if base is not None else _stand_in(paths)
    )
    with warnings.catch_warnings(action="ignore", category=MaquetteWarning):  # a stand-in is another base
        residuals = [_residuals(path, backbone, seed) for path in paths]
    return max(float((a - b).abs().max()) for a, b in zip(*residuals, strict=True))


def _stand_in(paths: list[Path]) -> Backbone:
    """By the first configuration that either has; shapes do not tell everything."""
    opened = [controlnets.opened(path) for path in paths]
    for path, (_, weights) in zip(paths, opened, strict=True):
        if recognise(weights) in RELATIVE:
            raise MaquetteError(f"{str(path)!r} is relative to a base; give the base.")
    config = next((config for config, _ in opened if config), None) or describe(_read(opened[0][1], None))
    family = family_of_controlnet(config)
    lacking = [name for name in ("block_out_channels", "down_block_types", "in_channels") if not config.get(name)]
    if lacking and family.name == DEFAULT:
        raise MaquetteError(
            f"The configuration of {str(paths[0])!r} lacks {lacking[0]!r}; give the base, to compare on that."
        )
    widths = config.get("block_out_channels", ())
    if any(width % (config.get("norm_num_groups") or topology.NORM_GROUPS) for width in widths):
        raise MaquetteError(
            f"How the norms of {str(paths[0])!r} group its channels is not as published and stated nowhere; give the "
            "base, to compare on that."
        )
    return family.stand_in(config)


def _residuals(path: Path, backbone: Backbone, seed: int) -> list[Tensor]:
    """The residuals (1, C, h, w) of a ControlNet on random inputs."""
    net = controlnets.read_controlnet(path, backbone).eval()
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        """Standard normal numbers in a shape such as (1, C, h, w)."""
        return torch.randn(shape, generator=generator)

    latents, states = normal(1, backbone.latent_channels, 8, 8), normal(1, 7, backbone.text.width)
    pooled = backbone.text.pooled_width
    text = Conditioning(states, pooled=normal(1, pooled), time_ids=normal(1, 6)) if pooled else Conditioning(states)
    condition = normal(1, 3, 8 * backbone.downscale, 8 * backbone.downscale).sigmoid()
    if net.control.condition_space == "latents":
        condition = normal(1, backbone.latent_channels + (net.control.paints == "only"), 8, 8)
    features = net.encode(condition)
    kinds = [kind.split("/")[0] for kind in net.contract.types or ()]
    given = [net.typed(features, kind) for kind in kinds] if kinds else features
    return [value for value in net(latents, 500, text, given) if value is not None]


def transfer(source: str | Path, old: str | Path, new: str | Path, target: str | Path) -> Path:
    """Write `source`, trained on the base `old`, for the base `new`, as a folder in diffusers' format.

    Copied weights gain the difference of the two bases; zero convolutions and condition encoder stay as they are.

    Raises `MaquetteError` for bases of different families, or if the ControlNet was trained on a third one.
    """
    source, target = Path(source), Path(target)
    from_base, to_base = base_weights(old), base_weights(new)
    _check_alike(from_base, to_base)
    kept, weights = controlnets.opened(source)
    kept = kept and union.completed(kept, weights)
    variant = ControlNetConfig.read(kept or {}).variant
    if variant == "lite":
        raise MaquetteError(f"{str(source)!r} is lite: it copies nothing of its base that could move; use it as it is.")
    if variant == "channels":
        raise MaquetteError(f"{str(source)!r} is a whole network with added channels, of its own base; train one anew.")
    if variant == "context":
        raise MaquetteError(f"{str(source)!r} is control in context, which copies nothing of its base; train one anew.")
    control = _read(weights, encoder_weights(from_base))
    if all(name.startswith(NOT_COPIED) for name in control):
        raise MaquetteError(
            f"{str(source)!r} stands beside its base, whose weights it holds none of by name; load it with the base "
            f"{str(new)!r} as it is."
        )
    config = kept or describe(control)
    contract = controlnets.read_contract(source, config, weights.metadata)
    if contract.belongs_to(fingerprint(from_base)) is False:
        raise MaquetteError(f"{str(source)!r} was trained on {contract.base!r}, not on {str(old)!r}; give that base.")
    moved = replace(contract, stated=True, base=str(new), base_fingerprint=fingerprint(to_base)).to_json()
    settings = {**ours(config), "contract": moved}
    tensors = transferred(control, encoder_weights(from_base), encoder_weights(to_base))
    write_weights(tensors, target / WEIGHTS, {**control.metadata, METADATA: json.dumps(moved)})
    write_config(target, {**config, "global_pool_conditions": contract.pooled, OURS: settings})
    return target


def _check_alike(old: Weights, new: Weights) -> None:
    for name, shape in encoder_weights(old).shapes.items():
        if new.shapes.get(name) != shape:
            raise MaquetteError(
                f"{str(old.source)!r} and {str(new.source)!r} are of different families ({name!r} has the shapes "
                f"{shape} and {new.shapes.get(name)}); a ControlNet can only be transferred within a family."
            )
