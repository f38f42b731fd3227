"""What every comparison method answers: trained on pairs with a budget, it makes pictures of prompts and maps.

This module does not import torch.
"""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from PIL import Image

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.declared import REQUIRED, Declared, setting
from maquette.foundation.registry import unknown

if TYPE_CHECKING:
    from maquette.data.pairs import Pairs

EDGES = ("canny", "scribble")
CLASS_MAPS = ("segmentation",)

RECORD, WEIGHTS = "method.json", "method.safetensors"
"""A trained method in its run's folder: name, condition, settings and base; and its networks."""


@dataclass(frozen=True)
class Budget(Declared):
    """How long a method trains. A run goes on with the budget it began with.

    Raises `MaquetteError` for values out of range.
    """

    steps: int = setting(REQUIRED, "optimizer steps of all its stages together", low=1)
    batch_size: int = setting(16, "pairs a step", low=1)
    seed: int = setting(0, "of all chance in the training", low=0)
    keep_every: int = setting(200, "steps between states on disk", low=1)


@runtime_checkable
class Method(Protocol):
    """A way to make pictures that follow condition maps, on a locked base.

    A class is made with (base, condition, settings), by `registry.make` or `registry.load`.
    """

    name: ClassVar[str]  # in the registry
    takes_text: ClassVar[bool]  # whether prompts count
    conditions: ClassVar[tuple[str, ...] | None]  # that it can take; None for any
    condition: str  # that it was made for

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""

    def train(self, pairs: "Pairs", budget: Budget, run: Path) -> None:
        """Train, or go on where an interrupted run stopped, and save what `registry.load` reads to the folder `run`.

        A resumed run ends with the same bits as an uninterrupted one.

        Raises `MaquetteError` for pairs of another condition or size, a run that began otherwise, and a method that
        learns nothing.
        """

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """One picture for each prompt, condition map and seed.

        A seed gives the same picture alone and in any batch, up to rounding.

        Raises `MaquetteError` for maps of another size or kind. Warns of prompts that it does not take.
        """


def check_condition(method: type[Method], condition: str) -> None:
    """Raises `MaquetteError` for a condition that a method cannot take."""
    if method.conditions is not None and condition not in method.conditions:
        kind = "edges" if method.conditions == EDGES else "class maps"
        raise MaquetteError(
            f"The method {method.name!r} takes {kind} ({', '.join(method.conditions)}), not {condition!r}; "
            "give one of these, or another method."
        )


def check_request(
    method: Method, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int], side: int
) -> None:
    """Check what pictures are asked for; warns of prompts where the method takes none.

    Args:
        side: of the maps, in pixels.

    Raises `MaquetteError` for different numbers of each, seeds below 0, and maps of another size.
    """
    if not len(prompts) == len(maps) == len(seeds):
        raise MaquetteError(
            f"A picture has a prompt, a map and a seed each, not {len(prompts)}, {len(maps)} and {len(seeds)} of them."
        )
    if wrong := [seed for seed in seeds if seed < 0]:
        raise MaquetteError(f"Seeds are 0 or more, not {wrong[0]}.")
    check_sizes([image.size for image in maps], side)
    if any(prompts) and not method.takes_text:
        warnings.warn(f"{method.name!r} takes no text; the prompts have no effect.", MaquetteWarning, stacklevel=3)


def check_sizes(sizes: Sequence[tuple[int, int]], side: int) -> None:
    """Raises `MaquetteError` for (width, height) other than a square of `side` pixels."""
    for width, height in sizes:
        if (width, height) != (side, side):
            raise MaquetteError(
                f"The comparison methods take images of {side}×{side} pixels on this base, not {width}×{height}; "
                "resize them."
            )


def check_names(kind: str, given: Sequence[str], known: Sequence[str]) -> None:
    """Raises `MaquetteError` for a name that is not known."""
    for name in given:
        if name not in known:
            raise MaquetteError(unknown(kind, name, known))


def runs_of_seeds(seeds: Sequence[int], most: int) -> Iterator[slice]:
    """Slices of up to `most` consecutive seeds, each one more than the one before, in order."""
    first = 0
    for place in range(1, len(seeds) + 1):
        if place == len(seeds) or seeds[place] != seeds[place - 1] + 1 or place - first == most:
            yield slice(first, place)
            first = place
