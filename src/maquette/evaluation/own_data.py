"""A user's own images, conditions and texts, as training reads them, to evaluate any ControlNet on.

This module does not import torch.
"""

import io
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from maquette.conditions.detect import Detector
from maquette.conditions.registry import detector_spec, detectors
from maquette.conditions.requirements import kind_of
from maquette.data.crop import CropView, ResizeCrop
from maquette.data.pairs import SourcePairs
from maquette.data.sources.jsonl import DEFAULT_COLUMNS, Columns, ImageRef
from maquette.data.sources.open import open_source
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.evaluation.protocol import AUTOMATIC, PROMPTS
from maquette.foundation.reading.pictures import opened_picture

if TYPE_CHECKING:
    from maquette.controlnet.contract import Contract
    from maquette.evaluation.controlnet import Examples

COUNT = 500


@dataclass(frozen=True)
class OwnData:
    """What to evaluate on, and how its conditions are found and scored."""

    source: str  # a folder, shards, Parquet files or org/name on the Hub
    condition: str
    detect: bool = False  # compute the conditions from the images
    count: int | None = None  # pairs; None: all, up to `COUNT`
    size: tuple[int, int] | None = None  # width, height; None: the base's
    palette: str | None = None  # of conditions that hold class numbers
    columns: Columns = DEFAULT_COLUMNS
    detector: str | None = None  # scores the images; None: the condition's own
    weights: str | None = None  # of the detector
    options: dict[str, Any] = field(default_factory=dict)  # of the detector

    @property
    def judge(self) -> str:
        """The detector that scores the images."""
        return self.detector or self.condition

    def check(self) -> None:
        """Check that the condition can be scored, before anything is loaded.

        Raises `MaquetteError` where no detector is known for it, or no metric, and for wrong options.
        """
        if self.detector is None and self.condition not in detectors:
            raise MaquetteError(
                f"No detector is called {self.condition!r}, so nothing finds that condition in a generated image; name "
                "one that draws such maps (--detector scribble), or register one (mq.register_detector)."
            )
        spec = detector_spec(self.judge)
        spec.check_weights(self.weights)
        spec.options.given(spec.name, self.options)
        from maquette.metrics.registry import metric_of

        if spec.outputs_text or metric_of(self.judge) is None:
            raise MaquetteError(
                f"There is no metric for maps of {self.judge!r}; name another detector (--detector), or register a "
                "metric (mq.register_metric)."
            )

    def open(self, base_size: int, device: str, contract: "Contract", seed: int = 0) -> "OpenData":
        """Read the pairs. Raises `MaquetteError` where fewer than two can be read, or the detector has no weights."""
        from maquette.evaluation.controlnet import Examples
        from maquette.metrics.fidelity import map_scorer

        columns = self.columns if not self.detect else replace(self.columns, condition=None, has_conditions=False)
        source = open_source(self.source, columns)
        scorer = map_scorer(self.judge, device, weights=self.weights, options=self.options)
        detect = self._detector(device) if self.detect else None
        kind = kind_of(self.condition, contract.categorical or self.palette is not None)
        framing = ResizeCrop(self.size or (base_size, base_size), kind=kind)
        pairs = SourcePairs.open(self.condition, source, framing, detect, self.palette)
        rows = _readable(pairs, self.count or COUNT, seed)
        examples = Examples.of(pairs, rows, scorer, "pairs")
        return OpenData(examples, self._facts(pairs, rows))

    def _detector(self, device: str) -> Callable[[Image.Image, Any], Image.Image]:
        detector = Detector(self.judge, self.weights, device)
        return lambda image, rng: detector(image, **self.options)

    def _facts(self, pairs: SourcePairs, rows: Sequence[int]) -> dict[str, Any]:
        stored = [pairs.source[row] for row in rows]
        conditions = [row.condition for row in stored if row.condition is not None]
        width, height = pairs.framing.size
        return {
            "source": self.source,
            "pairs": f"{len(rows)} of {len(pairs)}",
            "size": f"{width}×{height}",
            "resizing": "scaled to cover, cut at the centre; images by Lanczos, conditions "
            + {"smooth": "too", "lines": "keeping lines whole", "classes": "by the nearest pixel"}[pairs.framing.kind],
            "image files": _formats([row.image for row in stored]),
            "condition": self.condition,
            "conditions": "detected in the framed images" if self.detect else _formats(conditions),
            "palette": self.palette,
            "detector": self.judge,
            "detector weights": self.weights or next(iter(detector_spec(self.judge).weights), None),
            "detector options": ", ".join(f"{key}={value}" for key, value in self.options.items()) or "defaults",
        }


@dataclass(frozen=True)
class OpenData:
    """Pairs that were read, and what is to be known of them."""

    examples: "Examples"
    facts: dict[str, Any]

    def kinds(self, asked: tuple[str, ...] | None, can_caption: bool) -> tuple[str, ...]:
        """The kinds of prompt that these pairs allow, of those asked for; by default of all.

        Raises `MaquetteError` where none is left.
        """
        kinds = asked or ((*PROMPTS, AUTOMATIC) if can_caption else tuple(PROMPTS))
        if any(text.strip() for text in self.examples.captions):
            return kinds
        allowed = tuple(kind for kind in kinds if kind not in ("true", "conflicting"))
        if not allowed:
            raise MaquetteError(
                "The data set has no texts, which these kinds of prompt need; give --prompts default,none."
            )
        if allowed != kinds:
            warnings.warn(
                "The data set has no texts, so the kinds of prompt are " + ", ".join(allowed) + ".",
                MaquetteWarning,
                stacklevel=2,
            )
        return allowed


def _readable(pairs: SourcePairs, count: int, seed: int) -> list[int]:
    """Up to `count` rows that can be read, chosen by the seed, in the data set's order."""
    order = np.random.default_rng(seed).permutation(len(pairs)) if count < len(pairs) else range(len(pairs))
    rows: list[int] = []
    faults: list[str] = []
    for row in map(int, order):
        try:
            pairs.pair(row, CropView(), None)
            rows.append(row)
        except MaquetteError as error:
            faults.append(str(error))
        if len(rows) == count:
            break
    if len(rows) < 2:
        first = f" The first fault: {faults[0]}" if faults else ""
        raise MaquetteError(f"An evaluation takes 2 pairs or more, and {len(rows)} of {len(pairs)} can be read.{first}")
    if faults:
        warnings.warn(f"{len(faults)} pairs cannot be read, the first: {faults[0]}", MaquetteWarning, stacklevel=3)
    return sorted(rows)


def _formats(stored: Sequence[ImageRef]) -> str:
    """The formats of stored images and how many have each, such as "JPEG 9, PNG 6": JPEG moves a Fréchet distance."""
    counts: Counter[str] = Counter()
    for one in stored:
        with opened_picture(io.BytesIO(one.read()), "an image") as image:
            counts[str(image.format)] += 1
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
