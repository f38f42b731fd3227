"""Saving a ControlNet as a folder in diffusers' format, which diffusers and ComfyUI can load.

It depends only on the attributes it writes (`Written`): `network` imports this module, not the other way round.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from maquette.backbones.protocol import ControlFamily
from maquette.controlnet.contract import METADATA, OURS, Contract, ours
from maquette.formats.channels import widened
from maquette.formats.write import write_weights
from maquette.foundation.files import atomic_write

CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
ADDED = "condition_encoder.conv_out.weight"  # what reads the condition, of added channels
OWN_CLASS = "maquette.ControlNet"  # in config.json, of a ControlNet that diffusers has no class for


class Written(Protocol):
    """The parts of a ControlNet that are saved."""

    contract: Contract
    control: ControlFamily
    condition_encoder: nn.Module
    trainable_copy: Any  # a module; in context with a `rank`
    config: Any  # a dataclass of settings

    def published(self) -> dict[str, Tensor]:
        """Its weights under their published names."""


def save(net: Written, folder: Path) -> None:
    """Write config.json and the weights, in the net's dtype; config.json names a class of diffusers where it fits."""
    contract = net.contract.to_json() if net.contract.stated else None
    own = {OURS: {**vars(net.config), **({"contract": contract} if contract else {})}}
    if net.config.variant == "channels":
        added = net.control.published(ADDED)
        tensors = widened(net.published(), net.control.first_layer, added)
        config = net.control.widened_config(net.published()[added].shape[1])
    elif net.config.variant == "context":
        tensors, config = net.published(), {"_class_name": OWN_CLASS, "rank": net.trainable_copy.rank}
    else:
        tensors, config = net.published(), _config(net, own_layout(own) is not None)
    write_weights(tensors, folder / WEIGHTS, {METADATA: json.dumps(contract)} if contract else {})
    write_config(folder, {**config, **own})


def _config(net: Written, is_own: bool) -> dict[str, Any]:
    """The part of config.json that diffusers reads; its class is ours where diffusers has none."""
    config = net.control.config(net.condition_encoder)
    told = {
        "global_pool_conditions": net.contract.pooled,
        "controlnet_conditioning_channel_order": net.contract.channel_order,
    }
    config |= {name: value for name, value in told.items() if name in config}
    if is_own and (net.control.condition_space == "pixels" or net.config.variant == "lite"):
        config["_class_name"] = OWN_CLASS
    return config


def own_layout(config: Mapping[str, Any]) -> str | None:
    """What of a ControlNet no other program has, by its config.json; None where all is as published."""
    stored = ours(config)
    if "lite" in (stored.get("variant"), stored.get("kind")):
        return "is a lite ControlNet"
    if stored.get("variant") == "channels":
        return "is a whole network with added channels"
    if stored.get("variant") == "context":
        return "is control in context"
    return "has the paper's condition encoder" if stored.get("encoder") == "paper" else None


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Write config.json, with our part under the key of this version."""
    if stored := ours(config):
        config = {**{key: value for key, value in config.items() if key != "maquette"}, OURS: stored}
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2) + "\n")
