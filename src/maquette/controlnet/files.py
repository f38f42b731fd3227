"""A ControlNet on disk: written as a diffusers folder, which diffusers and ComfyUI load too; read from any format."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from maquette.backbones.protocol import Backbone
from maquette.controlnet.contract import METADATA, Contract, fingerprint
from maquette.controlnet.network import ControlNet, Design
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.control import OWN, read_control
from maquette.formats.write import write_weights
from maquette.foundation.files import written_whole
from maquette.foundation.weights import Shape, Weights, find_weights, open_weights

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
KEPT_CONFIG = "maquette.config"  # metadata of a file: the config.json of the folder it was converted from


def save(net: ControlNet, folder: Path) -> None:
    contract = net.contract.to_json() if net.contract.stated else None
    config = {
        **net.description,
        "conditioning_embedding_out_channels": list(net.encoder.channels),
        "global_pool_conditions": net.contract.pooled,
        "controlnet_conditioning_channel_order": net.contract.channel_order,
        "maquette": {**vars(net.design), **({"contract": contract} if contract else {})},
    }
    tensors = {_published(name, len(net.slots)): value for name, value in net.state_dict().items()}
    write_weights(tensors, folder / WEIGHTS, {METADATA: json.dumps(contract)} if contract else {})
    write_config(folder, config)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    with written_whole(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2) + "\n")


def load(path: Path, backbone: Backbone) -> ControlNet:
    """Read a ControlNet in the backbone's dtype and on its device.

    Args:
        path: a folder written by `save` or by diffusers, or a file of weights in any format (`formats.control`).
    """
    found, weights = opened(path)
    config = found or {}
    known = {field.name for field in fields(Design)}
    design = Design(**{key: value for key, value in config.get("maquette", {}).items() if key in known})
    net = ControlNet.build(backbone, design)
    theirs, ours = config.get("block_out_channels"), net.description["block_out_channels"]
    if theirs is not None and list(theirs) != list(ours):
        raise MaquetteError(
            f"The ControlNet in {str(path)!r} is made for a base of widths {list(theirs)}, "
            f"this base has {list(ours)}; load the base it was trained on."
        )
    state = {_published(name, len(net.slots)): value for name, value in net.state_dict().items()}
    copied = {name: value for name, value in state.items() if not name.startswith(OWN)}
    weights = read_control(weights, Weights.held(copied, Path("base")))
    _check(weights, {name: tuple(value.shape) for name, value in state.items()})
    with torch.no_grad():
        for name, value in state.items():  # one by one, so that what is told relative to the base finds the base
            value.copy_(weights[name])
    net.contract = read_contract(path, config, weights.metadata)
    _warn_of_another_base(net.contract, path, backbone)
    return net


def read_contract(path: Path, config: Mapping[str, Any], metadata: Mapping[str, str]) -> Contract:
    """Its own, or what is published; pooling (shuffle) is also in the .yaml that v1.1 has beside each file."""
    contract, beside = Contract.read(config, metadata), path.with_suffix(".yaml")
    if not contract.stated and path.is_file() and beside.is_file():
        words = beside.read_text("utf-8", errors="replace")
        found = re.search(r"global_average_pooling:\s*true", words, re.IGNORECASE)
        return replace(contract, pooled=found is not None)
    return contract


def _warn_of_another_base(contract: Contract, path: Path, backbone: Backbone) -> None:
    if contract.belongs_to(fingerprint(backbone.network.state_dict())) is False:
        warnings.warn(
            f"The ControlNet in {str(path)!r} was trained on another base ({contract.base}) than it is loaded for; it "
            "works on its relatives, less exactly.",
            MaquetteWarning,
            stacklevel=4,
        )


def _published(name: str, slots: int) -> str:
    """The name under which every published ControlNet keeps a weight."""
    part, rest = name.split(".", 1)
    if part == "copy":
        return rest
    if part == "encoder":
        return f"controlnet_cond_embedding.{rest}"
    number, rest = rest.split(".", 1)
    return f"controlnet_mid_block.{rest}" if int(number) == slots - 1 else f"controlnet_down_blocks.{number}.{rest}"


def weights_path(path: Path) -> Path:
    """Where the weights of a folder, or of a file itself, lie."""
    return (find_weights(path) or path / WEIGHTS) if path.is_dir() else path


def opened(path: Path) -> tuple[dict[str, Any] | None, Weights]:
    """What config.json says, or a file's metadata where `convert` has put it; and the weights, unread."""
    config = read_config(path) if path.is_dir() else None
    weights = open_weights(weights_path(path))
    if config is None and KEPT_CONFIG in weights.metadata:
        config = _read(weights.metadata[KEPT_CONFIG], str(path))
    return config, weights


def read_config(folder: Path) -> dict[str, Any]:
    try:
        return _read((folder / CONFIG).read_text("utf-8"), str(folder / CONFIG))
    except FileNotFoundError as error:
        raise MaquetteError(
            f"There is no {CONFIG} in {str(folder)!r}; give a folder that holds a ControlNet."
        ) from error
    except UnicodeDecodeError as error:
        raise MaquetteError(f"{str(folder / CONFIG)!r} is no text ({error}); fetch the folder anew.") from error


def _read(words: str, source: str) -> dict[str, Any]:
    try:
        config = json.loads(words)
    except json.JSONDecodeError as error:
        raise MaquetteError(f"{source!r} is not JSON ({error}); fetch it anew.") from error
    if not isinstance(config, dict) or not isinstance(config.get("maquette", {}), dict):
        raise MaquetteError(f"{source!r} is not the configuration of a ControlNet; fetch it anew.")
    return config


def _check(weights: Weights, expected: dict[str, Shape]) -> None:
    source, missing, surplus = str(weights.source), expected.keys() - set(weights), set(weights) - expected.keys()
    if missing or surplus:
        raise MaquetteError(
            f"The weights in {source!r} lack {len(missing)} tensors and have {len(surplus)} that do not belong "
            f"(the first: {min(missing | surplus)!r}); they are of another kind of ControlNet or of another base."
        )
    for name, shape in weights.shapes.items():
        if shape != expected[name]:
            raise MaquetteError(
                f"{name!r} in {source!r} has the shape {shape}, this base wants {expected[name]}; "
                "load the base that the ControlNet was trained on."
            )
