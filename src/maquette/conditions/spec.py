"""What a detector declares: what it draws, its options, its weights, and how to load it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

from PIL import Image

from maquette.conditions.weight_sources import Parts, WeightSource, is_cached, local_weights
from maquette.errors import MaquetteError
from maquette.foundation.declared import Declared, setting, settings_of
from maquette.foundation.images import MapKind
from maquette.foundation.registry import unknown

option = setting


class Described(NamedTuple):
    """An option as tables show it."""

    name: str
    default: Any
    range: str
    words: str


@dataclass(frozen=True)
class Options(Declared):
    """The options of a detector; a detector without options uses this class itself.

    Raises `MaquetteError` that lists every invalid value at once.
    """

    @classmethod
    def given(cls, detector: str, values: Mapping[str, Any]) -> Self:
        """Options from values by name. Raises `MaquetteError` for unknown names and invalid values."""
        known = [option.name for option in fields(cls)]
        for name in values:
            if name not in known:
                raise MaquetteError(unknown(f"option of {detector}", name, known))
        try:
            return cls(**values)
        except MaquetteError as error:
            raise MaquetteError(f"{detector}: {error}") from None

    @classmethod
    def described(cls) -> list[Described]:
        """Each option as a table shows it."""
        return [Described(item.name, item.default, item.range, item.words) for item in settings_of(cls).values()]


Predict = Callable[[list[Image.Image], Any], list[Any]]
"""Takes RGB images of any sizes and options; returns one result per image.

A map of the image's size, RGB or grey (mode L); the text of a caption; or, for detectors with a record, what the map is
drawn from.
"""

Load = Callable[[str | Path | None, str], Predict]
"""Takes weights (the name of published ones, a file, a folder, or None for the default) and a device (as for
`torch.device`, or "auto"). Networks are loaded here or on first use."""


@dataclass(frozen=True)
class Record:
    """How to store what a map is drawn from, where that is worth keeping and editing: key points, class numbers."""

    ending: str  # suffix of its files, such as .json
    draw: Callable[[Any], Image.Image]
    write: Callable[[Any, Path], None]
    read: Callable[[Path], Any]  # raises `MaquetteError` for a file without such content


@dataclass(frozen=True)
class DetectorSpec:
    """A detector, before its weights are loaded."""

    name: str
    draws: str  # what its maps show, as tables say it
    load: Load
    options: type[Options] = Options
    library: str = "OpenCV"  # what it runs on
    weights: Mapping[str, WeightSource | Parts] = field(default_factory=dict)  # by name, the default first
    weights_by_option: bool = False  # only some options need them, and not the defaults
    categorical: bool = False  # colours stand for classes and must never be interpolated
    lines: bool = False  # white on black without greys: averaging would turn thin lines grey
    outputs_text: bool = False  # text instead of a map
    record: Record | None = None
    of_scene: Callable[[Any], Image.Image] | None = None  # the exact map of a diorama scene
    completeness: Callable[[Any], float] | None = None  # how complete a result is, 0 to 1: share of a body's key points
    unseeded: Callable[[Mapping[str, Any]], bool] | None = None  # whether options given leave a seed nothing to do

    def check_weights(self, weights: str | Path | None) -> None:
        """Raises `MaquetteError` for weights that are neither published nor a path, or where it takes none."""
        if weights is not None and not self.weights:
            raise MaquetteError(f"{self.name} takes no weights; leave them out.")
        if not self.weights_by_option:  # otherwise the options decide whether it takes any
            local_weights(self.name, list(self.weights), weights)

    def check_present(self) -> None:
        """Raises `MaquetteError` if its default weights would be downloaded first."""
        default = next(iter(self.weights.values()), None)
        if not self.offline and default is not None and not is_cached(default):
            raise MaquetteError(f"The detector {self.name!r} has no weights here; fetch them with: {default.command}.")

    @property
    def kind(self) -> MapKind:
        """How its maps are brought to another size."""
        return "classes" if self.categorical else "lines" if self.lines else "smooth"

    @property
    def takes_seed(self) -> bool:
        """Whether its parameters can be randomised."""
        return any(option.name == "seed" for option in fields(self.options))

    def leaves_no_chance(self, options: Mapping[str, Any]) -> bool:
        """Whether a seed would have no effect beside these options, given by name."""
        return self.unseeded is not None and self.unseeded(options)

    @property
    def offline(self) -> bool:
        """Whether its default options work without a download."""
        return not self.weights or self.weights_by_option

    @property
    def is_network(self) -> bool:
        """Whether it runs a network, loaded once per device; other detectors run in any number of processes."""
        return not self.offline or self.library == "PyTorch"


def per_image(detect: Callable[..., Image.Image]) -> Load:
    """The loader of a detector without weights: a function of one image and keyword options."""

    def predict(images: list[Image.Image], options: Options) -> list[Image.Image]:
        return [detect(image, **asdict(options)) for image in images]

    return lambda weights, device: predict
