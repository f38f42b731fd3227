"""Families of base models: how a folder or a file is recognised, and how what is in it is read.

One registry; a new family is a backbone (`maquette.backbones`), its text encoder and a `Family`, given to `register`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from maquette.backbones.protocol import Backbone
from maquette.base import Base
from maquette.checkpoints.networks import part_settings
from maquette.errors import MaquetteError
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Weights
from maquette.text.conditioning import TextEncoder


class Family:
    """What a family answers to those who read and write bases. Folders are the least; the rest may be left out."""

    name: str  # as `Backbone.family` says
    part: str  # the folder of its network in a base in diffusers' format
    network_class: str  # its "_class_name" in the config.json there
    controlnet_class: str  # and in the config.json of its ControlNets
    foreign_schedules: tuple[str, ...] = ("EDM",)  # how classes of schedules begin that no base of it here has

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        """The backbone of a base's folder, and the side of the images it was trained on, pixels.

        Args:
            downscale: of the autoencoder.
        """
        raise NotImplementedError

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """The text encoder of a base's folder.

        Args:
            index: what model_index.json says.
        """
        raise NotImplementedError

    def pipeline(self, base: Base) -> dict[str, object]:
        """What model_index.json says beside the parts that every base has."""
        return {}

    def holds(self, weights: Weights) -> bool:
        """Whether a file holds a whole model of this family."""
        return False

    def read_file(self, path: Path, where: Placement, **settings: Any) -> Base:
        """A base out of such a file."""
        raise NotImplementedError

    def file_network(self, weights: Weights) -> Weights:
        """The network's weights in such a file under the names of a folder's, unread."""
        raise NotImplementedError

    def stand_in(self, config: Mapping[str, Any]) -> Backbone:
        """A backbone on random weights that a ControlNet with this config.json fits."""
        raise MaquetteError(f"A ControlNet of the family {self.name} is only read beside its base; give the base.")


FAMILIES: list[Family] = []

F = TypeVar("F", bound=type[Family])


def register(family: F) -> F:
    """Add a family, by decorating its class."""
    FAMILIES.append(family())
    return family


def family_named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def family_of_folder(folder: Path, index: Mapping[str, Any]) -> Family:
    """By what the config.json of a base's network says.

    Args:
        index: what model_index.json says.

    Raises `MaquetteError` for a folder without a network, or with one of no family.
    """
    present = [family for family in FAMILIES if (folder / family.part).is_dir()]
    if not present:
        known = dict.fromkeys(family.part for family in FAMILIES)
        parts = " or ".join(repr(part) for part in [part for part in known if part in index] or known)
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {parts}; fetch it anew.")
    said = [part_settings(folder, family.part, _class_name) for family in present]
    for family, name in zip(present, said, strict=True):
        if name in (None, family.network_class):
            return family
    classes = ", ".join(family.network_class for family in FAMILIES)
    raise MaquetteError(
        f"The network of the base in {str(folder)!r} is a {said[0]}, which is of no family here (they have {classes}); "
        "give a base of one."
    )


def family_of_file(weights: Weights) -> Family:
    """By the names of the tensors; what nothing recognises is the first family's, whose reader says what it lacks."""
    return next((family for family in FAMILIES if family.holds(weights)), FAMILIES[0])


def family_of_controlnet(config: Mapping[str, Any]) -> Family:
    """By what the config.json of a ControlNet says; without a word, the first family's."""
    name = config.get("_class_name")
    return next((family for family in FAMILIES if family.controlnet_class == name), FAMILIES[0])


def _class_name(part: Path) -> str | None:
    name = json.loads((part / "config.json").read_text("utf-8")).get("_class_name")
    return None if name is None else str(name)
