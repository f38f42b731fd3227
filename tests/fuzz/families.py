"""Bases of every family, each with a ControlNet, saved whole; a broken file stands in for one of theirs.

Some ControlNets are there in single files too, under the names of other programs.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.checkpoints.info import info
from maquette.checkpoints.save import save_base
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.formats.control import PREFIX, as_original
from maquette.formats.write import write_weights
from maquette.foundation.weights import Weights, open_weights
from tests import tiny_flux, tiny_qwen, tiny_sd3
from tests.conftest import randomise, tiny_base
from tests.tiny_union import published_union

MAKE: dict[str, Callable[[], Base]] = {
    "sd15": partial(tiny_base, "sd15"),
    "sdxl": partial(tiny_base, "sdxl"),
    "sd3": tiny_sd3.tiny_sd3,
    "flux": tiny_flux.tiny_flux,
    "qwen": tiny_qwen.tiny_qwen,
}
FILES = {**{name: name for name in MAKE}, "original": "sd15", "ranks": "sd15", "xlabs": "flux"}
"""ControlNets in single files, and the family of each."""
WEIGHTS = "diffusion_pytorch_model.safetensors"
NET = "net"  # beside the parts of a base: its ControlNet


class Families:
    """The folders of whole bases, and the bases in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, make in MAKE.items():
            if not (folder / name).exists():
                _save(make(), folder / name)
        self.bases = {name: load_base(folder / name, "cpu", "float32") for name in MAKE}
        for name in FILES:
            self._save_file(name)

    def read_base(self, path: Path, name: str) -> None:
        """Load and use a base with another file; `name` is its family and its place."""
        family, place = name.split("/", 1)
        with tempfile.TemporaryDirectory(dir=self.folder) as around:
            base = load_base(_replaced(self.folder / family, Path(around) / family, place, path), "cpu", "float32")
            base.encode_text(["a b"])
            base.encode_negative("")

    def read_net(self, path: Path, name: str) -> None:
        """Load a ControlNet with another file, on its base; `name` as for a base."""
        family, place = name.split("/", 1)
        with tempfile.TemporaryDirectory(dir=self.folder) as around:
            net = _replaced(self.folder / family / NET, Path(around) / NET, place, path)
            load_controlnet(net, self.bases[family])

    def read_file(self, path: Path, name: str) -> None:
        """Describe a ControlNet in a file without config.json, and load it; `name` is one of `FILES`."""
        with suppress(MaquetteError):
            info(path)
        load_controlnet(path, self.bases[FILES[name]])

    def _save_file(self, name: str) -> None:
        family, path = FILES[name], file_of(self.folder, name)
        weights = open_weights(self.folder / family / NET / WEIGHTS)
        if name == "original":
            tensors = dict(as_original(weights))
        elif name == "ranks":
            tensors = _in_ranks(as_original(weights).below(PREFIX))
        elif name == "xlabs":
            network = tiny_flux.published(self.bases[family].backbone.network, 2, **tiny_flux.XLABS)
            tensors = tiny_flux.originals(network.state_dict())
        else:
            tensors = dict(weights)
        if not path.exists():
            write_weights(tensors, path, {})


def _in_ranks(bare: Weights) -> dict[str, Tensor]:
    """A Control-LoRA of two layers."""
    own = {
        name: bare[name] for name in bare if name.startswith(("input_hint_block.", "zero_convs.", "middle_block_out."))
    }
    stem = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    ranks = {f"{stem}.up": torch.ones(16, 2), f"{stem}.down": torch.ones(2, 16)}
    conv = {"input_blocks.1.0.in_layers.2.up": torch.ones(16, 2, 1, 1)}
    conv |= {"input_blocks.1.0.in_layers.2.down": torch.ones(2, 16, 3, 3)}
    return {**own, **ranks, **conv, "lora_controlnet": torch.ones(1)}


def file_of(folder: Path, name: str) -> Path:
    """A ControlNet of `FILES`, below a folder."""
    return folder / "files" / f"{name}.safetensors"


def _save(base: Base, folder: Path) -> None:
    save_base(base, folder)
    if folder.name == "sdxl":
        published_union(base.backbone.network).save_pretrained(folder / NET)
    elif folder.name == "sd15":
        randomise(ControlNet.attach(base)).save(folder / NET)
    else:
        ControlNet.attach(base).save(folder / NET)


def places(folder: Path) -> list[str]:
    """The JSON files of all bases below a folder, each with its family; without those of ControlNets."""
    found = sorted(path.relative_to(folder) for name in MAKE for path in (folder / name).rglob("*.json"))
    return [path.as_posix() for path in found if NET not in path.parts]


def _replaced(folder: Path, copy: Path, name: str, path: Path) -> Path:
    """A folder of links to the files of another, but for one."""
    for file in folder.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(path if file.relative_to(folder).as_posix() == name else file)
    return copy
