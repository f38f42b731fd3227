"""All detectors by name: those of the package, whose modules are imported when they are first used, and others'."""

import inspect
import warnings
from collections.abc import Callable
from dataclasses import make_dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from PIL import Image

from maquette.conditions.options import Options, option
from maquette.conditions.spec import DetectorSpec, each
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import Registry

OWN = "one's own"

detectors: Registry[DetectorSpec] = Registry("detector")
for _name, _where in {
    "canny": "canny:CANNY",
    "scribble": "scribble:SCRIBBLE",
    "xdog": "xdog:XDOG",
    "softedge": "softedge:SOFTEDGE",
    "hed": "hed:HED",
    "lineart": "lineart:LINEART",
    "lineart_anime": "lineart:LINEART_ANIME",
    "hough": "lines:HOUGH",
    "lsd": "lines:LSD",
    "mlsd": "mlsd:MLSD",
    "pose": "pose:POSE",
    "depth": "depth:DEPTH",
    "normal": "normal:NORMAL",
    "segmentation": "segmentation:SEGMENTATION",
    "caption": "caption:CAPTION",
    "diorama/depth": "diorama:DEPTH",
    "diorama/normal": "diorama:NORMAL",
    "diorama/segmentation": "diorama:SEGMENTATION",
    "diorama/pose": "diorama:POSE",
}.items():
    detectors.add_lazily(_name, f"maquette.conditions.detectors.{_where}")


def register_detector(
    name: str, draw: Callable[..., Image.Image], draws: str = "", *, categorical: bool = False
) -> None:
    """Make a function a detector: of an RGB image, and options by name with their defaults, to a map of its size.

    Packages do the same by an entry point in the group "maquette.detectors", whose name is the detector's.

    Args:
        draws: what its maps show, in words.
        categorical: its colours name things, and are never to be mixed.
    """
    if name in detectors and detectors[name].library != OWN:
        raise MaquetteError(f"There is a detector {name!r} already; choose another name.")
    options = _options_of(name, draw)

    def checked(image: Image.Image, **chosen: Any) -> Image.Image:
        shown = draw(image, **chosen)
        if not isinstance(shown, Image.Image) or shown.size != image.size:
            given = shown.size if isinstance(shown, Image.Image) else type(shown).__name__
            raise MaquetteError(f"A detector draws a PIL image of the size given; {name!r} gave {given}.")
        return shown

    spec = DetectorSpec(name, draws, each(checked), options, library=OWN, categorical=categorical)
    detectors.add(name, spec, anew=name in detectors)


def _options_of(name: str, draw: Callable[..., Image.Image]) -> type[Options]:
    """The keyword arguments of a function as options."""
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    without = [one.name for one in parameters if one.default is one.empty]
    if without:
        raise MaquetteError(f"Options of a detector have defaults; {name!r} has none for {', '.join(without)}.")
    taken = [one.name for one in parameters if hasattr(Options, one.name)]
    if taken:
        raise MaquetteError(f"An option cannot be called {taken[0]!r}; {name!r} has one: call it otherwise.")
    kinds = [(one.name, Any, option(one.default, "What the function makes of it.")) for one in parameters]
    try:
        return make_dataclass("OwnOptions", kinds, bases=(Options,), frozen=True)
    except ValueError as error:
        raise MaquetteError(f"Defaults of options are numbers, words or None; of {name!r}: {error}.") from error


def detector_spec(name: str) -> DetectorSpec:
    """A detector of the package, of another package or of the user's."""
    if name not in detectors:
        load_others()
    return detectors[name]


@cache
def load_others() -> None:
    """Add what other packages offer by entry points."""
    for one in entry_points(group="maquette.detectors"):
        if one.name in detectors:
            continue
        try:
            register_detector(one.name, one.load(), f"what {one.value} draws")
        except Exception as error:  # another package's fault is not to take this one's detectors away
            warnings.warn(f"The detector {one.name!r} cannot be had: {error}", MaquetteWarning, stacklevel=2)
