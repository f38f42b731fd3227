"""ControlNets that are read: by name, from a folder in diffusers' format, or from a file in any."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from maquette.backbones.protocol import Backbone
from maquette.base import Base
from maquette.checkpoints.names import local_controlnet
from maquette.checkpoints.networks import check_tensors
from maquette.controlnet.contract import Contract, fingerprint
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.controlnet.save import CONFIG, WEIGHTS
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.hub import snapshot
from maquette.foundation.weights import Weights, find_weights, open_weights

KEPT_CONFIG = "maquette.config"  # metadata of a file: the config.json of the folder it was converted from


def load_controlnet(name: str | Path, base: Base, *, token: str | None = None) -> ControlNet:
    """Load a ControlNet for a base.

    A file's format is found from what stands in it: original (v1.0, v1.1), bare, difference or Control-LoRA. It takes
    the base's dtype and device.

    Args:
        name: bundled, such as "diorama/canny"; a folder in diffusers' format; a file; or on the Hub, as
            org/name[@revision].
        token: for what is not public on the Hub.

    Raises `MaquetteError` for an unknown name, a broken file, or weights of another base.
    """
    return read_controlnet(find_controlnet(name, token), base.backbone).eval().requires_grad_(False)


def find_controlnet(name: str | Path, token: str | None = None) -> Path:
    """The folder or file of a ControlNet: bundled, here, or fetched from the Hub (org/name, org/name@revision)."""
    return local_controlnet(str(name)) or _fetched(str(name), token)


def _fetched(name: str, token: str | None) -> Path:
    """One precision of it, full where there is a choice, safetensors before what is pickled."""
    for wanted, unwanted in ((".safetensors*", ("*.fp16.*",)), (".fp16.safetensors*", ()), ("*.bin*", ("*.fp16.*",))):
        folder = snapshot(name, (CONFIG, f"diffusion_pytorch_model{wanted}"), unwanted, token)
        if find_weights(folder):
            return folder
    raise MaquetteError(f"{name!r} on the Hub holds no ControlNet in diffusers' format; give a file of it.")


def read_controlnet(path: Path, backbone: Backbone) -> ControlNet:
    """Read a ControlNet in the backbone's dtype and on its device.

    Args:
        path: a folder written by `ControlNet.save` or by diffusers, or a file in any format that its family knows
            (of Stable Diffusion: `formats.control`).
    """
    found, weights = opened(path)
    config = found or {}
    net = ControlNet.build(backbone, ControlNetConfig.read(config), config)
    state = net.published()
    own = {net.control.published(f"trainable_copy.{name}") for name in net.trainable_copy.state_dict()}
    copied = {name: value for name, value in state.items() if name in own}
    weights = net.control.read(config, weights, Weights.held(copied, Path("base")))
    check_tensors(
        weights,
        {name: name for name in weights},
        {name: tuple(value.shape) for name, value in state.items()},
        "ControlNet on this base",
        foreign="they are of another kind of ControlNet or of another base",
        misshapen="load the base that the ControlNet was trained on",
    )
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
