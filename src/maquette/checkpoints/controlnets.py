"""Loading ControlNets: by name, from a folder in diffusers' format, or from a file in any known format."""

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
from maquette.controlnet.contract import METADATA, OURS, Contract, fingerprint, ours
from maquette.controlnet.network import ControlNet, ControlNetConfig
from maquette.controlnet.save import ADDED, CONFIG, WEIGHTS
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats import union
from maquette.formats.channels import narrowed
from maquette.formats.configurations import CONTROLNET, DESIGN
from maquette.formats.transformers.known import completed
from maquette.formats.transformers.sd3_names import stated_contract
from maquette.foundation.hub import snapshot
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.reading.files import TEXT, read_bytes, read_text
from maquette.foundation.reading.networks import check_network
from maquette.foundation.reading.rules import check_values
from maquette.foundation.weights import Weights, find_weights, open_weights

KEPT_CONFIG = "maquette.config"  # metadata of a file: the config.json of the folder it was converted from


def load_controlnet(name: str | Path, base: Base, *, token: str | None = None) -> ControlNet:
    """Load a ControlNet for a base.

    A file's format is detected from its contents: original (v1.0, v1.1), bare, difference or Control-LoRA. The
    ControlNet gets the base's dtype and device.

    Args:
        name: a bundled one such as "diorama/canny"; a folder in diffusers' format; a file; or org/name[@revision] on
            the Hub.
        token: access token for private repositories on the Hub.

    Raises `MaquetteError` for an unknown name, a broken file, or weights for another base.
    """
    net = read_controlnet(find_controlnet(name, token), base.backbone).eval().requires_grad_(False)
    net.name = str(name)
    return net


def find_controlnet(name: str | Path, token: str | None = None) -> Path:
    """The folder or file of a ControlNet: bundled, local, or downloaded from the Hub (org/name, org/name@revision)."""
    return local_controlnet(str(name)) or _downloaded(str(name), token)


def _downloaded(name: str, token: str | None) -> Path:
    """Download one variant only: full precision first, safetensors before pickled files."""
    for suffix, excluded in ((".safetensors*", ("*.fp16.*",)), (".fp16.safetensors*", ()), ("*.bin*", ("*.fp16.*",))):
        folder = snapshot(name, (CONFIG, f"diffusion_pytorch_model{suffix}"), excluded, token)
        if find_weights(folder):
            return folder
    raise MaquetteError(
        f"{name!r} on the Hub holds no ControlNet in diffusers' format; download its file and give that."
    )


def read_controlnet(path: Path, backbone: Backbone) -> ControlNet:
    """Read a ControlNet in the backbone's dtype and on its device; on the CPU for one on the meta device.

    Args:
        path: a folder written by `ControlNet.save` or by diffusers, or a file in any format that the backbone's family
            knows (for Stable Diffusion: `formats.control`).

    Raises `MaquetteError` for a broken file, or weights for another base.
    """
    found, weights = opened(path)
    config = union.completed(found or backbone.told_config(weights), weights)
    net = _built(backbone, config, path)
    state = net.published()
    if net.config.variant == "channels":
        weights = narrowed(weights, net.control.first_layer, net.control.published(ADDED), backbone.latent_channels)
    elif net.config.variant != "context":
        copied_names = {net.control.published(f"trainable_copy.{name}") for name in net.trainable_copy.state_dict()}
        copied = {name: value for name, value in state.items() if name in copied_names}
        weights = net.control.read(config, weights, Weights.held(copied, Path("base")))
    check_tensors(
        weights,
        {name: name for name in weights},
        {name: tuple(value.shape) for name, value in state.items()},
        "ControlNet on this base",
        foreign="they are of another kind of ControlNet or of another base",
        misshapen="load the base that the ControlNet was trained on",
    )
    if (
        is_stand_in := net.device.type == "meta"
    ):  # no more is allocated than the file holds, whatever its config.json says
        state = net.to_empty(device="cpu").published()
    with torch.no_grad():
        for name, value in state.items():  # in place and one by one: relative formats read the base's value from here
            value.copy_(weights[name])
    net.contract = read_contract(path, config, weights.metadata)
    if not is_stand_in:
        _warn_of_another_base(net.contract, path, backbone)
    return net


def _built(backbone: Backbone, config: Mapping[str, Any], path: Path) -> ControlNet:
    """A ControlNet as its config.json describes it. Raises `MaquetteError` where that describes none."""
    try:
        with next(backbone.network.parameters()).device:  # layers of its own are not made elsewhere first
            return ControlNet.build(backbone, ControlNetConfig.read(config), config)
    except MaquetteError:
        raise
    except Exception as error:  # settings that are valid alone but not together
        raise MaquetteError(
            f"The configuration of the ControlNet in {str(path)!r} fits no network ({error}); download it again."
        ) from error


def load_contract(name: str | Path, token: str | None = None) -> Contract:
    """A ControlNet's contract alone; no tensor is read. `name` and errors are those of `load_controlnet`."""
    path = find_controlnet(name, token)
    config, weights = opened(path)
    return read_contract(path, union.completed(config or {}, weights), weights.metadata)


def read_contract(path: Path, config: Mapping[str, Any], metadata: Mapping[str, str]) -> Contract:
    """A ControlNet's contract, or the published defaults; v1.1 states pooling (shuffle) in a .yaml next to the file."""
    contract, yaml = Contract.read(config, metadata), path.with_suffix(".yaml")
    if not contract.stated and path.is_file() and yaml.is_file():
        text = read_yaml(yaml)
        found = re.search(r"global_average_pooling:\s*true", text, re.IGNORECASE)
        return replace(contract, pooled=found is not None)
    return contract


def read_yaml(path: Path) -> str:
    """The text of a configuration in the original layout. Raises `MaquetteError` if it cannot be read."""
    try:
        return read_text(path, errors="replace")
    except OSError as error:
        raise MaquetteError(f"The configuration {str(path)!r} cannot be read ({error.strerror or error}).") from error


def _warn_of_another_base(contract: Contract, path: Path, backbone: Backbone) -> None:
    if contract.belongs_to(fingerprint(backbone.network.state_dict())) is False:
        warnings.warn(
            f"The ControlNet in {str(path)!r} was trained on another base ({contract.base}) than the one it is loaded "
            "for; on related bases it works, but less accurately.",
            MaquetteWarning,
            stacklevel=4,
        )


def weights_path(path: Path) -> Path:
    """The weights file in a folder, or the file itself."""
    return (find_weights(path) or path / WEIGHTS) if path.is_dir() else path


def opened(path: Path) -> tuple[dict[str, Any] | None, Weights]:
    """The configuration, from config.json or from the metadata that `convert` writes; and the lazily loaded weights."""
    config = read_config(path) if path.is_dir() else None
    weights = _stating(open_weights(weights_path(path)))
    if config is None and KEPT_CONFIG in weights.metadata:
        config = _read(weights.metadata[KEPT_CONFIG], str(path))
    if config:
        config = completed(check_network(config, CONTROLNET, len(weights), str(path)), weights)
    return config, weights


def _stating(weights: Weights) -> Weights:
    """The weights with the contract that 3.5 large's own nets state by a number among their tensors."""
    stated = stated_contract(weights)
    if not stated or METADATA in weights.metadata:
        return weights
    metadata = {**weights.metadata, METADATA: json.dumps(stated)}
    return Weights(weights.source, weights.shapes, weights.__getitem__, metadata)


def read_config(folder: Path) -> dict[str, Any]:
    """A ControlNet's config.json. Raises `MaquetteError` if it is missing or broken."""
    try:
        return _read(read_bytes(folder / CONFIG, TEXT), str(folder / CONFIG))
    except FileNotFoundError as error:
        raise MaquetteError(
            f"There is no {CONFIG} in {str(folder)!r}; give a folder that holds a ControlNet."
        ) from error
    except OSError as error:
        raise MaquetteError(f"{str(folder / CONFIG)!r} cannot be read ({error.strerror or error}).") from error


def _read(content: bytes | str, source: str) -> dict[str, Any]:
    try:
        config = parse_json(content)
    except ValueError as error:
        raise MaquetteError(f"{source!r} is not JSON ({error}); download it again.") from error
    if not isinstance(config, dict) or not all(isinstance(config.get(key, {}), dict) for key in (OURS, "maquette")):
        raise MaquetteError(f"{source!r} is not the configuration of a ControlNet; download it again.")
    check_values(ours(config), DESIGN, source)
    return check_values(config, CONTROLNET, source)
