"""What every detector says of itself: what it draws, its options, its weights, and how it is opened."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from PIL import Image

from maquette.conditions.options import Options
from maquette.conditions.weight_sources import Parts, WeightSource, users_own
from maquette.errors import MaquetteError

Predict = Callable[[list[Image.Image], Any], list[Any]]
"""RGB images of any sizes and options in; for each its map, of its own size: RGB, or grey (mode L) where that is all.

For captions its words, and for kinds with a record what the map is drawn from.
"""

Load = Callable[[str | Path | None, str], Predict]
"""Weights (a name among the published ones, a file, a folder; None: the usual ones) and a device in, as
`torch.device` takes it or "auto". Networks are loaded here, or when they are first needed."""


@dataclass(frozen=True)
class Record:
    """What a map is drawn from, where that is worth keeping and editing: key points, class numbers."""

    ending: str  # of its files
    draw: Callable[[Any], Image.Image]
    write: Callable[[Any, Path], None]
    read: Callable[[Path], Any]  # `MaquetteError` for a file that holds none


@dataclass(frozen=True)
class DetectorSpec:
    """A detector, before it is opened."""

    name: str
    draws: str  # what its maps show, in words
    load: Load
    options: type[Options] = Options
    library: str = "OpenCV"  # what computes
    weights: Mapping[str, WeightSource | Parts] = field(default_factory=dict)  # by name, the usual ones first
    weights_by_option: bool = False  # needed for some of its options only, and not for the usual ones
    categorical: bool = False  # colours name things: never to be mixed
    outputs_text: bool = False  # its answer is a text, not a map
    record: Record | None = None
    of_scene: Callable[[Any], Image.Image] | None = None  # the exact map of one of the diorama's scenes
    completeness: Callable[[Any], float] | None = None  # of a whole find that one holds, 0 to 1: of a body's key points

    def check_weights(self, weights: str | Path | None) -> None:
        """`MaquetteError` for weights that are neither published for it nor there, or where it takes none."""
        if weights is not None and not self.weights:
            raise MaquetteError(f"{self.name} takes no weights; leave them out.")
        if not self.weights_by_option:  # else whether it takes them at all follows from the options
            users_own(self.name, list(self.weights), weights)

    @property
    def takes_seed(self) -> bool:
        """Whether its parameters can be drawn at random."""
        return any(option.name == "seed" for option in fields(self.options))

    @property
    def offline(self) -> bool:
        """Whether it works with what the package brings."""
        return not self.weights or self.weights_by_option

    @property
    def is_network(self) -> bool:
        """Whether a network sees, which is opened once a device; all else runs in as many processes as there are."""
        return not self.offline or self.library == "PyTorch"


def each(draw: Callable[..., Image.Image]) -> Load:
    """A function of one image and options by name as a detector without weights."""

    def draw_all(images: list[Image.Image], options: Options) -> list[Image.Image]:
        return [draw(image, **asdict(options)) for image in images]

    return lambda weights, device: draw_all
