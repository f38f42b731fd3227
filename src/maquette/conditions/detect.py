"""Detectors by name, ready to draw."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, overload

from PIL import Image

from maquette.conditions.canny import CANNY
from maquette.conditions.caption import CAPTION
from maquette.conditions.depth import DEPTH
from maquette.conditions.diorama import DIORAMA
from maquette.conditions.hed import HED
from maquette.conditions.kind import Kind, each
from maquette.conditions.lineart import LINEART, LINEART_ANIME
from maquette.conditions.lines import HOUGH, LSD
from maquette.conditions.mlsd import MLSD
from maquette.conditions.normal import NORMAL
from maquette.conditions.options import Options, option
from maquette.conditions.pose_detector import POSE
from maquette.conditions.scribble import SCRIBBLE
from maquette.conditions.segmenter import SEGMENTATION
from maquette.conditions.softedge import SOFTEDGE
from maquette.conditions.xdog import XDOG
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb
from maquette.foundation.registry import Registry

LONGEST = 32_766  # pixels a side: OpenCV remaps no longer ones
OWN = "one's own"

detectors: Registry[Kind] = Registry("detector")
for _kind in (
    CANNY,
    SCRIBBLE,
    XDOG,
    SOFTEDGE,
    HED,
    LINEART,
    LINEART_ANIME,
    HOUGH,
    LSD,
    MLSD,
    POSE,
    DEPTH,
    NORMAL,
    SEGMENTATION,
    CAPTION,
    *DIORAMA,
):
    detectors.add(_kind.name, _kind)


class Detector:
    """A detector, opened for repeated use: its weights are loaded once.

    Args:
        name: as in `maquette detect --list`.
        weights: a name among its published weights, a file or a folder; without, the usual ones.
        device: as `torch.device` takes it; "auto" is the fastest that is there.

    Raises `MaquetteError` for an unknown name and for weights that cannot be had.
    """

    def __init__(self, name: str, weights: str | Path | None = None, device: str = "auto") -> None:
        self.kind = kind_named(name)
        if weights is not None and not self.kind.weights:
            raise MaquetteError(f"{name} takes no weights; leave them out.")
        self._see = self.kind.open(weights, device)

    @overload
    def __call__(self, pictures: Image.Image, **options: Any) -> Image.Image: ...

    @overload
    def __call__(self, pictures: Sequence[Image.Image], **options: Any) -> list[Image.Image]: ...

    def __call__(self, pictures: Image.Image | Sequence[Image.Image], **options: Any) -> Any:
        """The map of a picture, or of each of several: RGB, of the picture's own size.

        Of captions the words. A scene of the diorama may stand for a picture where a detector knows its exact map.
        Raises `MaquetteError` for options that the detector does not have, and for values out of range.
        """
        self.kind.options.given(self.kind.name, options)
        single = not isinstance(pictures, Sequence)
        given: list[Any] = [pictures] if single else list(pictures)  # type: ignore[arg-type]
        if self.kind.of_scene and all(hasattr(one, "keypoints") for one in given):
            maps = [self.kind.of_scene(one) for one in given]
        else:
            record = self.kind.record
            found = self.find(given, **options)
            maps = [record.draw(one) for one in found] if record else found
            maps = maps if self.kind.words else [as_rgb(one) for one in maps]
        return maps[0] if single else maps

    def find(self, pictures: Sequence[Image.Image], **options: Any) -> list[Any]:
        """What the maps are drawn from, of kinds with a record (key points, class numbers); else maps, RGB or grey."""
        chosen = self.kind.options.given(self.kind.name, options)
        return self._see([_readable(one) for one in pictures], chosen) if len(pictures) else []


def _readable(picture: Image.Image) -> Image.Image:
    """As the eye sees it; a file that PIL opened may turn out to be broken only now."""
    assert isinstance(picture, Image.Image), "detectors take PIL pictures"
    if not 0 < min(picture.size) <= max(picture.size) <= LONGEST:
        raise MaquetteError(
            f"A picture for detectors has 1 to {LONGEST:,} pixels a side; this one is {picture.width}×{picture.height}."
        )
    try:
        return as_rgb(picture)
    except (OSError, SyntaxError) as error:
        raise MaquetteError(f"The picture cannot be read ({error}); save it anew or give another.") from error


def detect(
    name: str, image: Image.Image, *, weights: str | Path | None = None, device: str = "auto", **options: Any
) -> Image.Image:
    """The condition map of a picture, at the picture's own size: `detect("canny", image, low=100, high=200)`.

    Raises `MaquetteError` for an unknown detector or option, and for values out of range.
    """
    kind_named(name).options.given(name, options)  # before weights are fetched
    return Detector(name, weights, device)(image, **options)


def register_detector(
    name: str, draw: Callable[..., Image.Image], draws: str = "", *, categorical: bool = False
) -> None:
    """Make a function a detector: of an RGB picture, and options by name with their defaults, to a map of its size.

    Packages do the same by an entry point in the group "maquette.detectors", whose name is the detector's.

    Args:
        draws: what its maps show, in words.
        categorical: its colours name things, and are never to be mixed.
    """
    if name in detectors and detectors[name].library != OWN:
        raise MaquetteError(f"There is a detector {name!r} already; choose another name.")
    options = _options_of(name, draw)

    def checked(picture: Image.Image, **chosen: Any) -> Image.Image:
        shown = draw(picture, **chosen)
        if not isinstance(shown, Image.Image) or shown.size != picture.size:
            given = shown.size if isinstance(shown, Image.Image) else type(shown).__name__
            raise MaquetteError(f"A detector draws a PIL picture of the size given; {name!r} gave {given}.")
        return shown

    kind = Kind(name, draws, each(checked), options, library=OWN, categorical=categorical)
    detectors.add(name, kind, anew=name in detectors)


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


def kind_named(name: str) -> Kind:
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
