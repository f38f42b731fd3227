"""Families of base models: how their folders and files are recognised and loaded.

One registry: a new family is a backbone (`maquette.backbones`), its text encoder and a `Family` passed to `register`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from maquette.backbones.protocol import Backbone
from maquette.base import Autoencoder, Base, Defaults
from maquette.checkpoints.networks import filled_vae, part_config, part_weights
from maquette.errors import MaquetteError
from maquette.formats.configurations import VAE
from maquette.formats.transformers.known import Format
from maquette.foundation.devices import Placement
from maquette.foundation.weights import Weights
from maquette.noise.process import Prediction
from maquette.text.conditioning import TextEncoder


class Family:
    """How bases of a family are loaded and saved. Reading folders is required; the other methods are optional."""

    name: str  # equal to `Backbone.family`
    part: str  # the network's subfolder in diffusers' format
    network_class: str  # "_class_name" in the config.json there
    controlnet_class: str  # "_class_name" in the config.json of its ControlNets
    autoencoder_class: str = "AutoencoderKL"
    foreign_schedules: tuple[str, ...] = ("EDM",)  # prefixes of scheduler classes that are not supported
    defaults: Defaults | None = None  # for sampling, of bases that do not say any

    def read_network(self, folder: Path, where: Placement, downscale: int) -> tuple[Backbone, int]:
        """The backbone in a base's folder, and the side of the images it was trained on, pixels.

        Args:
            downscale: of the autoencoder.

        Raises `MaquetteError` if it is missing or broken.
        """
        raise NotImplementedError

    def read_autoencoder(self, folder: Path, where: Placement) -> tuple[Autoencoder, int]:
        """The autoencoder in a base's folder, and how many pixels it makes one cell of, along a side.

        Raises `MaquetteError` if it is missing or broken.
        """
        weights = part_weights(folder, "vae")
        autoencoder = filled_vae(part_config(folder, "vae", VAE, tensors=len(weights)), weights, where)
        return autoencoder, 2 ** (len(autoencoder.config.block_out_channels) - 1)

    def check_schedule(self, scheduler: str, folder: Path) -> None:
        """Raises `MaquetteError` for a class of schedulers that no base of the family was trained with."""
        if scheduler.startswith(self.foreign_schedules):
            raise MaquetteError(
                f"The base in {str(folder)!r} is trained on the schedule of a {scheduler}, which no ControlNet here "
                "was; use a base with DDPM's steps."
            )

    def read_text(self, folder: Path, where: Placement, index: Mapping[str, Any], backbone: Backbone) -> TextEncoder:
        """The text encoder in a base's folder.

        Args:
            index: the contents of model_index.json.

        Raises `MaquetteError` if it is missing or broken.
        """
        raise NotImplementedError

    def pipeline(self, base: Base) -> dict[str, object]:
        """Entries of model_index.json besides the parts that every base has."""
        return {}

    def holds(self, weights: Weights) -> bool:
        """Whether a file holds a whole model of this family."""
        return False

    def read_file(self, path: Path, where: Placement, **settings: Any) -> Base:
        """The base in such a file. Raises `MaquetteError` if it is broken or incomplete."""
        raise NotImplementedError

    def file_network(self, weights: Weights) -> Weights:
        """The network's weights in such a file, named as in a folder, loaded lazily.

        Raises `MaquetteError` if there is no network.
        """
        raise NotImplementedError

    def folder_network(self, weights: Weights) -> Weights:
        """The network's weights in a base's folder, under diffusers' names."""
        return weights

    def file_prediction(self, weights: Weights, requested: Prediction | None) -> Prediction | None:
        """What such a file predicts, as it says or as requested; None where neither tells.

        Raises `MaquetteError` for a file that says otherwise than was requested.
        """
        return requested

    def stand_in(self, config: Mapping[str, Any]) -> Backbone:
        """A backbone on the meta device, without values, that fits a ControlNet with this config.json.

        Raises `MaquetteError` if the family does not support it, or the configuration describes no network.
        """
        raise MaquetteError(
            f"A ControlNet of the family {self.name} is only read together with its base; give the base."
        )


class TransformerFamily(Family):
    """A transformer trained by flow matching, read from folders; a file holds the network alone, named in some way."""

    part = "transformer"
    format: Format  # how its tensors are named

    def check_schedule(self, scheduler: str, folder: Path) -> None:
        """Raises `MaquetteError` for anything but flow matching."""
        if not scheduler.startswith("FlowMatch"):
            raise MaquetteError(
                f"The base in {str(folder)!r} is trained by flow matching, and its scheduler is a {scheduler or '?'}; "
                "write the configuration of a FlowMatchEulerDiscreteScheduler into its scheduler folder."
            )

    def holds(self, weights: Weights) -> bool:
        return self.format.holds_original(weights) or self.format.holds_transformer(weights)

    def read_file(self, path: Path, where: Placement, **settings: Any) -> Base:
        """Raises `MaquetteError`: a file holds the transformer alone."""
        raise MaquetteError(
            f"{str(path)!r} holds {self.format.NAME}'s transformer alone, without text encoder and autoencoder; give "
            "its folder in diffusers' format, with this file in its folder transformer, or its name on the Hub."
        )

    def folder_network(self, weights: Weights) -> Weights:
        return self.format.as_diffusers(weights)

    def file_network(self, weights: Weights) -> Weights:
        return self.format.as_diffusers(weights)

    def file_prediction(self, weights: Weights, requested: Prediction | None) -> Prediction | None:
        """Raises `MaquetteError` for a request of anything but flow."""
        if requested not in (None, "flow"):
            raise MaquetteError(
                f"{str(weights.source)!r} is {self.format.NAME}, which predicts flow, not {requested!r}."
            )
        return "flow"


FAMILIES: list[Family] = []
DEFAULT = "stable-diffusion"  # of files that no family recognises

F = TypeVar("F", bound=type[Family])


def register(family: F) -> F:
    """Add a family, by decorating its class."""
    FAMILIES.append(family())
    return family


def family_named(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


def family_of_folder(folder: Path, index: Mapping[str, Any]) -> Family:
    """The family that the config.json of a base's network names.

    Args:
        index: the contents of model_index.json.

    Raises `MaquetteError` for a folder without a network, or with one of an unknown family.
    """
    present = [family for family in FAMILIES if (folder / family.part).is_dir()]
    if not present:
        known = dict.fromkeys(family.part for family in FAMILIES)
        parts = " or ".join(repr(part) for part in [part for part in known if part in index] or known)
        raise MaquetteError(f"The base in {str(folder)!r} has no folder {parts}; download it again.")
    names = [part_config(folder, family.part, {}).get("_class_name") for family in present]
    for family, name in zip(present, names, strict=True):
        if name in (None, family.network_class):
            return family
    classes = ", ".join(family.network_class for family in FAMILIES)
    raise MaquetteError(
        f"The network of the base in {str(folder)!r} is a {names[0]}, which is of no known family ({classes}); "
        "use a base of one of these."
    )


def family_of_file(weights: Weights) -> Family:
    """By the names of the tensors; by default Stable Diffusion, whose reader says what the file lacks."""
    recognised = next((family for family in FAMILIES if family.holds(weights)), None)
    return recognised or family_named(DEFAULT)


def family_of_controlnet(config: Mapping[str, Any]) -> Family:
    """By "_class_name" in a ControlNet's config.json; by default Stable Diffusion."""
    name = config.get("_class_name")
    recognised = next((family for family in FAMILIES if family.controlnet_class == name), None)
    return recognised or family_named(DEFAULT)
