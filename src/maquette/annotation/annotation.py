"""What is asked of an annotation: of which images, what is drawn and written, and which are left out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import random_options
from maquette.conditions.spec import DetectorSpec
from maquette.data.sources.jsonl import SMALLEST, Columns
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Annotation:
    """All that decides what comes out; not by how many processes and on which device.

    Args:
        source: as `open_source` takes it; conditions that it has are not read.
        condition: the detector that draws them; options and weights are its.
        caption: the detector that writes the texts, which are then not read.
        seed: for detectors that take one: row i's follows from it and i alone.
        smallest: images of fewer pixels a side are left out.
        largest: only so many images, those of the most pixels.
        found: images in which the detector finds less than this share are left out. The paper asks of a pose for 0.3
            of a whole body's key points (v1 §3.5).
        shard_size: rows of the source that a shard is made of.

    Raises `MaquetteError` for detectors that cannot do what is asked of them.
    """

    source: str
    condition: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    caption: str | None = None
    columns: Columns = field(default_factory=Columns)
    seed: int | None = None
    smallest: int = SMALLEST
    largest: int | None = None
    found: float | None = None
    shard_size: int = 1000

    def __post_init__(self) -> None:
        spec = self.spec
        if spec.outputs_text:
            raise MaquetteError(f"{spec.name} writes words, not conditions; give it as --caption.")
        if self.caption is not None and not detector_spec(self.caption).outputs_text:
            raise MaquetteError(f"{self.caption} draws maps, and texts are written by a detector that writes words.")
        if self.seed is not None and not spec.takes_seed:
            raise MaquetteError(f"{spec.name} has no seed: its maps follow from the images alone; leave it out.")
        if self.seed is not None and "seed" in self.options:
            raise MaquetteError("A seed is either one for all rows, as an option, or gives each row its own, not both.")
        if self.found is not None and spec.completeness is None:
            raise MaquetteError(f"{spec.name} does not tell which share of a whole it has found; leave --found out.")
        spec.options.given(spec.name, self.options)
        for name, low in (("smallest", SMALLEST), ("largest", 1), ("shard_size", 1)):
            if (value := getattr(self, name)) is not None and value < low:
                raise MaquetteError(f"{name} is a whole number of {low} or more, not {value}.")

    @property
    def spec(self) -> DetectorSpec:
        return detector_spec(self.condition)

    @property
    def has_networks(self) -> bool:
        """Whether a network draws or writes."""
        return self.spec.is_network or (self.caption is not None and detector_spec(self.caption).is_network)

    @property
    def read(self) -> Columns:
        """What is read of the source."""
        return Columns(self.columns.image, None, self.columns.text, False, self.columns.has_texts and not self.caption)

    def options_of(self, row: int) -> dict[str, Any]:
        """The detector's options for a row of the source."""
        if self.seed is None:
            return dict(self.options)
        return {**self.options, **random_options(self.spec, np.random.default_rng((self.seed, row)))}

    def settings(self) -> dict[str, Any]:
        """What is kept beside the result, defaults of the detector with it; plain values, as JSON has them."""
        chosen = self.spec.options.given(self.condition, self.options)
        return {**asdict(self), "options": asdict(chosen)}
