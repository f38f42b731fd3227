"""Detectors by name, ready to draw."""

import inspect
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
from maquette.errors import MaquetteError
from maquette.foundation.images import as_rgb
from maquette.foundation.registry import Registry

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
        single = not isinstance(pictures, Sequence)
        given: list[Any] = [pictures] if single else list(pictures)  # type: ignore[arg-type]
        if self.kind.of_scene and all(hasattr(one, "keypoints") for one in given):
            maps = [self.kind.of_scene(one) for one in given]
        else:
            record = self.kind.record
            found = self.find(given, **options)
            maps = [record.draw(one) for one in found] if record else found
        return maps[0] if single else maps

    def find(self, pictures: Sequence[Image.Image], **options: Any) -> list[Any]:
        """What the maps are drawn from, of kinds with a record (key points, class numbers); else the maps."""
        chosen = self.kind.options.given(self.kind.name, options)
        return self._see([_readable(one) for one in pictures], chosen) if len(pictures) else []


def _readable(picture: Image.Image) -> Image.Image:
    """As the eye sees it; a file that PIL opened may turn out to be broken only now."""
    assert isinstance(picture, Image.Image), "detectors take PIL pictures"
    if not all(picture.size):
        raise MaquetteError(f"A picture has pixels; this one is {picture.width}×{picture.height}.")
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
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    without = [one.name for one in parameters if one.default is one.empty]
    if without:
        raise MaquetteError(f"Options of a detector have defaults; {name!r} has none for {', '.join(without)}.")
    kinds = [(one.name, Any, option(one.default, "")) for one in parameters]
    options = make_dataclass(f"{name}_options", kinds, bases=(Options,), frozen=True)
    detectors.add(name, Kind(name, draws, each(draw), options, library="one's own", categorical=categorical))


def kind_named(name: str) -> Kind:
    """A detector of the package, of another package or of the user's."""
    if name not in detectors:
        load_others()
    return detectors[name]


@cache
def load_others() -> None:
    """Add what other packages offer by entry points."""
    for one in entry_points(group="maquette.detectors"):
        if one.name not in detectors:
            register_detector(one.name, one.load(), f"what {one.value} draws")
