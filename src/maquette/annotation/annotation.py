"""The settings of an annotation: which images, which detector and captioner, and what is left out."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import random_options
from maquette.conditions.spec import DetectorSpec
from maquette.data.crop import ResizeCrop
from maquette.data.sources.jsonl import SMALLEST, Columns
from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Annotation:
    """Everything that determines the result; workers and device do not.

    Args:
        source: as `open_source` takes it; its conditions, if any, are not read.
        condition: the detector of the condition maps.
        options: the detector's.
        weights: the detector's.
        caption: the detector that writes the texts; the source's are then not read.
        size: width and height of the frame that every image is scaled to cover and cropped to before detection, as in
            training at that size; multiples of 64 pixels. None keeps the size of each image: training at another size
            then resizes its map.
        buckets: give each image the frame of about that area that crops it least, as training with buckets does.
        seed: for detectors that take one; each row's seed depends only on this and the row's number.
        smallest: images with fewer pixels on a side are left out.
        largest: keep only this many images, those with the most pixels.
        found: leave out images in which the detector finds less than this fraction, 0 to 1. For poses the paper
            requires 0.3 of a body's key points (v1 §3.5).
        shard_size: rows of the source per shard.

    Raises `MaquetteError` for settings that the detectors do not support.
    """

    source: str
    condition: str
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    caption: str | None = None
    columns: Columns = field(default_factory=Columns)
    size: tuple[int, int] | None = (512, 512)
    buckets: bool = False
    seed: int | None = None
    smallest: int = SMALLEST
    largest: int | None = None
    found: float | None = None
    shard_size: int = 1000

    def __post_init__(self) -> None:
        spec = self.spec
        if spec.outputs_text:
            raise MaquetteError(f"{spec.name} writes text, not condition maps; give it as --caption.")
        if self.caption is not None and not detector_spec(self.caption).outputs_text:
            raise MaquetteError(f"{self.caption} outputs maps, not text; give --caption a detector that writes text.")
        if self.seed is not None and not spec.takes_seed:
            raise MaquetteError(f"{spec.name} has no seed: its maps depend only on the images; leave --seed out.")
        if self.seed is not None and "seed" in self.options:
            raise MaquetteError("Give either the option seed, the same for all rows, or --seed, not both.")
        if self.found is not None and spec.completeness is None:
            raise MaquetteError(f"{spec.name} does not say how much of a whole it has found; leave --found out.")
        spec.options.given(spec.name, self.options)
        if self.buckets and self.size is None:
            raise MaquetteError("Buckets are frames of about the area of --size; give a size, or leave --buckets out.")
        _ = self.framing  # raises for a size that no frame has
        for name, low in (("smallest", SMALLEST), ("largest", 1), ("shard_size", 1)):
            if (value := getattr(self, name)) is not None and value < low:
                raise MaquetteError(f"{name} is a whole number of {low} or more, not {value}.")

    @property
    def spec(self) -> DetectorSpec:
        return detector_spec(self.condition)

    @property
    def framing(self) -> ResizeCrop | None:
        """The frames that images are brought to before detection; None for their own size."""
        return None if self.size is None else ResizeCrop(self.size, self.buckets)

    @property
    def has_networks(self) -> bool:
        """Whether the detector or the captioner is a network."""
        return self.spec.is_network or (self.caption is not None and detector_spec(self.caption).is_network)

    @property
    def read_columns(self) -> Columns:
        """The columns that are read from the source."""
        texts = self.columns.has_texts and not self.caption
        return Columns(self.columns.image, None, self.columns.text, False, texts, self.columns.outside)

    def options_of(self, row: int) -> dict[str, Any]:
        """The detector's options for a row of the source."""
        if self.seed is None:
            return dict(self.options)
        return {**self.options, **random_options(self.spec, np.random.default_rng((self.seed, row)))}

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values, including the detector's default options; saved beside the shards."""
        chosen = self.spec.options.given(self.condition, self.options)
        values = {**asdict(self), "options": asdict(chosen)}
        if not self.columns.outside:  # as versions before 0.3 saved it
            del values["columns"]["outside"]
        if self.size is None:
            del values["buckets"]  # targets that versions before 0.3 started have neither
        return values
