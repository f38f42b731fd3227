"""All detectors by name: the package's own, imported on first use, and those of users and other packages."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import make_dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from PIL import Image

from maquette.conditions.spec import DetectorSpec, Options, option, per_image
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.registry import Registry

USER = "user-defined"  # library of detectors registered from functions

detectors: Registry[DetectorSpec] = Registry("detector")
for _name, _path in {
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
    "pose_pifpaf": "pose:POSE_PIFPAF",
    "depth": "depth:DEPTH",
    "normal": "normal:NORMAL",
    "segmentation": "segmentation:SEGMENTATION",
    "caption": "caption:CAPTION",
    "diorama/depth": "diorama:DEPTH",
    "diorama/normal": "diorama:NORMAL",
    "diorama/segmentation": "diorama:SEGMENTATION",
    "diorama/pose": "diorama:POSE",
    "diorama/pose_pifpaf": "diorama:POSE_PIFPAF",
    "diorama/caption": "diorama:CAPTION",
}.items():
    detectors.add_lazily(_name, f"maquette.conditions.detectors.{_path}")


def register_detector(
    name: str, draw: Callable[..., Image.Image], draws: str = "", *, categorical: bool = False, lines: bool = False
) -> None:
    """Register a function as a detector.

    Packages do the same with an entry point in the group "maquette.detectors", named after the detector.

    Args:
        draw: takes an RGB image and keyword options with defaults, returns a map of the same size.
        draws: what its maps show, for `maquette detect --list`.
        categorical: whether colours stand for classes and must never be interpolated.
        lines: whether it draws lines, white on black without greys, which stay so when a map is resized.

    Raises `MaquetteError` for a name that is taken, and for options without defaults or with names that are reserved.
    """
    if name in detectors and detectors[name].library != USER:
        raise MaquetteError(f"There is a detector {name!r} already; choose another name.")
    options = _options_of(name, draw)

    def checked(image: Image.Image, **values: Any) -> Image.Image:
        result = draw(image, **values)
        if not isinstance(result, Image.Image) or result.size != image.size:
            actual = result.size if isinstance(result, Image.Image) else type(result).__name__
            raise MaquetteError(
                f"A detector returns a PIL image of the input's size, {image.size}; {name!r} returned {actual}."
            )
        return result

    spec = DetectorSpec(name, draws, per_image(checked), options, library=USER, categorical=categorical, lines=lines)
    detectors.add(name, spec, anew=name in detectors)


def _options_of(name: str, draw: Callable[..., Image.Image]) -> type[Options]:
    """The keyword arguments of a function as options."""
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    required = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    if required:
        raise MaquetteError(
            f"Options of a detector need defaults; {name!r} has none for {', '.join(required)}: add them."
        )
    reserved = [parameter.name for parameter in parameters if hasattr(Options, parameter.name)]
    if reserved:
        raise MaquetteError(f"An option cannot be called {reserved[0]!r}; {name!r} has one: rename it.")
    declared = [
        (parameter.name, Any, option(parameter.default, "An argument of the registered function."))
        for parameter in parameters
    ]
    try:
        return make_dataclass("UserOptions", declared, bases=(Options,), frozen=True)
    except ValueError as error:
        raise MaquetteError(f"Defaults of options are numbers, strings or None; {name!r}: {error}.") from error


def detector_spec(name: str) -> DetectorSpec:
    """A detector by name: the package's, the user's or another package's.

    Raises `MaquetteError` for an unknown name.
    """
    if name not in detectors:
        load_others()
    return detectors[name]


@cache
def load_others() -> None:
    """Register the detectors that other packages provide by entry points."""
    for entry in entry_points(group="maquette.detectors"):
        if entry.name in detectors:
            continue
        try:
            register_detector(entry.name, entry.load(), f"what {entry.value} draws")
        except Exception as error:  # a broken package must not disable the other detectors
            warnings.warn(f"The detector {entry.name!r} cannot be loaded: {error}", MaquetteWarning, stacklevel=2)


HEADER = ("name", "what it draws", "library", "weights, MB", "licence", "offline")


def table() -> str:
    """One line per detector: what it draws, its library and its weights."""
    load_others()
    rows = [_row(detectors[name]) for name in detectors]
    return _columns([HEADER, *rows])


def one_detector(name: str) -> str:
    """The options and weights of one detector. Raises `MaquetteError` for an unknown name."""
    spec = detector_spec(name)
    options = [
        ("option", "default", "range", "meaning"),
        *((option.name, str(option.default), option.range, option.words) for option in spec.options.described()),
    ]
    weights = [
        ("weights", "MB", "licence", "fetched by"),
        *((key, str(source.megabytes), source.licence, source.command) for key, source in spec.weights.items()),
    ]
    return "\n\n".join([f"{name}: {spec.draws}", *(_columns(rows) for rows in (options, weights) if len(rows) > 1)])


def _row(spec: DetectorSpec) -> tuple[str, ...]:
    default = next(iter(spec.weights), None)
    others = f" and {len(spec.weights) - 1} more" if len(spec.weights) > 1 else ""
    weights = f"{default} {spec.weights[default].megabytes}{others}" if default else "none"
    licences = spec.weights[default].licence if default else "-"
    offline = "once downloaded" if not spec.offline else "except some options" if spec.weights else "yes"
    return spec.name, spec.draws, spec.library, weights, licences, offline


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
