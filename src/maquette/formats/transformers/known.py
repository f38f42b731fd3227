"""The transformers whose ControlNets and networks are told by their tensors."""

from collections.abc import Mapping
from typing import Any, Protocol, cast

from maquette.formats.transformers import flux, qwen, sd3, zimage
from maquette.foundation.weights import Shape, Weights


class Format(Protocol):
    """What a module of this folder knows of its family."""

    NAME: str
    NOT_COPIED: tuple[str, ...]  # prefixes of weights that only a ControlNet has

    @staticmethod
    def holds_control(names: Mapping[str, object]) -> bool:
        """Whether tensors are those of a ControlNet."""

    @staticmethod
    def holds_transformer(names: Mapping[str, object]) -> bool:
        """Whether tensors are those of a base's network, under diffusers' names."""

    @staticmethod
    def holds_original(names: Mapping[str, object]) -> bool:
        """Whether tensors are those of a base's network under other names."""

    @staticmethod
    def as_diffusers(weights: Weights) -> Weights:
        """The tensors under diffusers' names, read lazily."""

    @staticmethod
    def further_channels(shapes: Mapping[str, Shape]) -> dict[str, int]:
        """What a ControlNet's config.json leaves out of channels beside its condition's latents; often empty."""

    @staticmethod
    def full_config(weights: Weights) -> dict[str, Any]:
        """A ControlNet's config.json from its tensors. Raises `MaquetteError` where they do not tell all of it."""

    @staticmethod
    def summary(shapes: Mapping[str, Shape]) -> tuple[str, str]:
        """What a network is, and its blocks, in words."""


KNOWN = cast("tuple[Format, Format, Format, Format]", (sd3, flux, qwen, zimage))
"""Modules, whose constants mypy takes for variables."""
SD3, FLUX, QWEN, ZIMAGE = KNOWN


def of_control(names: Mapping[str, object]) -> Format | None:
    """The transformer that a ControlNet with these tensors is for; None for a U-Net's, and for anything else."""
    return next((known for known in KNOWN if known.holds_control(names)), None)


def completed(config: Mapping[str, Any], weights: Weights) -> dict[str, Any]:
    """A ControlNet's config.json with what it leaves out and its tensors tell."""
    known = of_control(weights)
    return {**config, **(known.further_channels(weights.shapes) if known else {})}


def of_network(names: Mapping[str, object]) -> Format | None:
    """The family of a transformer, or of a ControlNet on it, under diffusers' names; None for anything else."""
    return of_control(names) or next((known for known in KNOWN if known.holds_transformer(names)), None)
