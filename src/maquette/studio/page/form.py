"""Between the page's fields, by name, and the values of a request, both ways.

Names are those of `Request` and `Layer`, such as "steps" and "layers.0.weight", so that an error's field says beside
what it is shown. A record's further settings, which the page does not show, travel as "rest" and "layers.0.rest".
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args

from PIL import Image

from maquette.base import Base
from maquette.errors import MaquetteError, shortened
from maquette.sampling.size import nearest_size
from maquette.sampling.speed import NEUTRAL, Speed, parts_on
from maquette.studio.engine import Engine
from maquette.studio.page.canvas import background, drawn_map, editor_of, looks_like_map, painted, reduced
from maquette.studio.page.figure import figure_map
from maquette.studio.page.strings import Strings
from maquette.studio.requests.fields import about, within
from maquette.studio.requests.request import Request

LAYERS = 3
DRAWN = ("drawing", "figure")  # sources for which a picture on the canvas is only there to trace, or not seen
PLAIN = ("negative_prompt", "prompt_kind", "sampler", "speed", "steps", "guidance", "seed", "count", "strength")
OF_LAYER = ("net", "start", "end", "balance")
UNSEEN = ("condition_in", "resolution_weights", "distilled_guidance", "feather")
UNSEEN_OF_LAYER = ("curve", "branch")
WHOLE = ("steps", "seed", "count")
Values = dict[str, Any]


def request_of(values: Mapping[str, Any], engine: Engine, words: Strings) -> Request:
    """What the page asks for. Raises `MaquetteError` with the field that it is about."""
    asked = dict(values["rest"])
    asked |= {name: int(values[name]) if name in WHOLE else values[name] for name in PLAIN if values[name] is not None}
    if values["prompt_kind"] == "user":
        asked["prompt"] = values["prompt"] or ""
    asked["size"] = list(size_of(values, engine, words))
    image = _background(values, "image", engine, words)
    if image is not None:
        asked |= {"image": image, **_mask(values, "image", engine, words)}
    else:
        del asked["strength"]
    asked["layers"] = [layer_values(values, number, engine, words) for number in used(values)]
    with on_page(values):
        return Request.read(asked, engine.limits)


def used(values: Mapping[str, Any]) -> list[int]:
    """The controls in use, of which a request's layers are made."""
    return [number for number in range(LAYERS) if values[f"layers.{number}.use"]]


@contextmanager
def on_page(values: Mapping[str, Any]) -> Iterator[None]:
    """Errors about a layer of a request are about the control that it was made of."""
    try:
        yield
    except MaquetteError as error:
        error.field = control_of(error.field, values)
        raise


def control_of(field: str | None, values: Mapping[str, Any]) -> str | None:
    """The page's name for a field of a request, such as "layers.2.weight" for the second layer's where 0 and 2 are."""
    part, _, rest = (field or "").partition(".")
    number, _, name = rest.partition(".")
    return f"layers.{used(values)[int(number)]}.{name}" if part == "layers" and number.isdecimal() else field


def layer_values(values: Mapping[str, Any], number: int, engine: Engine, words: Strings) -> Values:
    """The values of a layer. Raises `MaquetteError` for a canvas without what its source asks for."""
    own = {name: values[f"layers.{number}.{name}"] for name in (*OF_LAYER, "weight", "slots", "source", "rest")}
    source = own["source"]
    with within(f"layers.{number}"):
        condition = condition_of(own["net"], engine)
    picture = _picture(values, number, condition, engine, words)
    if picture is None:
        with within(f"layers.{number}"), about("picture"):
            raise MaquetteError(words("empty" if source == "drawing" else "no_picture"))
    layer = {**own["rest"], **{name: own[name] for name in OF_LAYER}, "condition": condition}
    with within(f"layers.{number}"), about("weight"):
        layer["weight"] = weight_of(own["weight"], own["slots"], words)
    mask = _mask(values, f"layers.{number}.region", engine, words)
    return {**layer, "picture": picture, "is_map": source != "picture", **mask}


def advice(values: Mapping[str, Any], number: int, engine: Engine, words: Strings) -> str:
    """A sentence about a picture where a map belongs, and the reverse; empty where all seems well."""
    source, condition = values[f"layers.{number}.source"], condition_of(values[f"layers.{number}.net"], engine)
    picture = _background(values, f"layers.{number}.canvas", engine, words)
    if picture is None or source in DRAWN:
        return ""
    is_map = looks_like_map(picture, condition)
    if source == "picture":
        return words("is_map") if is_map else ""
    return "" if is_map else words("is_photo")


def fields_of(request: Request, engine: Engine, words: Strings) -> Values:
    """The page's fields for a request whose layers are ready maps, as a record has them.

    Raises `MaquetteError` for more controls than the page has, and for pictures that are broken.
    """
    if len(request.layers) > LAYERS:
        raise MaquetteError(words("too_many", len(request.layers), LAYERS))
    base = engine.studio.base
    fields = {name: getattr(request, name) for name in (*PLAIN, "prompt")} | _speed(request, base)
    fields |= {name: request.parts(base)[name] for name in ("steps", "sampler")}
    fields["guidance"] = base.defaults.guidance if request.guidance is None else request.guidance
    fields["rest"] |= {name: value for name in UNSEEN if (value := getattr(request, name)) is not None}
    fields["width"], fields["height"] = request.size or (None, None)
    image = request.image.image() if request.image else None
    mask = request.mask.image(_grey) if request.mask else None
    fields["image"] = editor_of(image, mask) if image else None
    for number in range(LAYERS):
        fields[f"layers.{number}.use"] = number < len(request.layers)
    for number, layer in enumerate(request.layers):
        picture = layer.picture.image()
        shown = {name: getattr(layer, name) for name in OF_LAYER}
        shown |= {"net": layer.net_name(engine.nets), "weight": layer.weight, "slots": ""}
        if isinstance(layer.weight, list):
            shown |= {"weight": 1.0, "slots": ", ".join(map(_shortest, layer.weight))}
        shown |= {"source": "map" if layer.is_map else "picture", "canvas": editor_of(picture)}
        shown["region"] = editor_of(picture, layer.mask.image(_grey)) if layer.mask else None
        shown["rest"] = {name: value for name in UNSEEN_OF_LAYER if (value := getattr(layer, name)) is not None}
        fields |= {f"layers.{number}.{name}": value for name, value in shown.items()}
    return fields


def weight_of(weight: float, slots: str | None, words: Strings) -> float | list[float]:
    """The weight of a layer; where single slots have theirs, each times it.

    Args:
        slots: numbers, shallow slots first, with commas or spaces between them; empty for the same at all.

    Raises `MaquetteError` for anything but numbers.
    """
    listed = re.split(r"[\s,，、;]+", (slots or "").strip(" ,\n"))
    try:
        return [weight * float(number) for number in listed] if listed != [""] else weight
    except ValueError as error:
        raise MaquetteError(words("not_numbers", shortened(repr(slots), 80))) from error


def condition_of(net: str | None, engine: Engine) -> str:
    """The condition that a ControlNet follows. Raises `MaquetteError` without one."""
    condition = engine.nets.get(net or "")
    if condition is None:
        with about("net"):
            raise MaquetteError(f"There is no ControlNet {net!r} here; choose another, or leave the control out.")
    return condition


def size_of(values: Mapping[str, Any], engine: Engine, words: Strings) -> tuple[int, int]:
    """(width, height) of the pictures: as given, else the first ready map's, to what the base takes, else the base's.

    Raises `MaquetteError` for a width without a height and the reverse, and for a size that the base does not take.
    """
    base = engine.studio.base
    width, height = (values[name] or None for name in ("width", "height"))  # an empty field may say 0
    if (width is None) != (height is None):
        with about("size"):
            raise MaquetteError(words("half_a_size"))
    if width is not None and height is not None:
        asked = Request.read({"size": [int(width), int(height)]}, engine.limits)
        asked.check(base, engine.nets)
        return int(width), int(height)
    usual = (base.size, base.size)
    for layer in (f"layers.{number}" for number in range(LAYERS)):
        if values[f"{layer}.use"] and values[f"{layer}.source"] == "map":
            picture = background(values[f"{layer}.canvas"], usual, base.size_multiple)
            if picture is not None:
                return nearest_size(base, picture.size)
    return usual


def _speed(request: Request, base: Base) -> Values:
    """The speed whose parts a request has; parts of no speed are in "rest", as far as the page does not show them."""
    parts = request.parts(base)
    own = {name: parts[name] for name in NEUTRAL}
    same = [speed for speed in get_args(Speed) if own == {name: parts_on(base, speed)[name] for name in NEUTRAL}]
    return {"speed": same[0], "rest": {}} if same else {"speed": "exact", "rest": own}


def _picture(
    values: Mapping[str, Any], number: int, condition: str, engine: Engine, words: Strings
) -> Image.Image | None:
    """The map, or the picture to detect in; None where there is nothing on the canvas."""
    layer, base = f"layers.{number}", engine.studio.base
    if values[f"{layer}.source"] == "figure":
        size = size_of(values, engine, words)
        with within(layer), about("picture"):
            return figure_map(values[f"{layer}.figure"], condition, base.name, size, words)
    if values[f"{layer}.source"] == "drawing":
        return drawn_map(values[f"{layer}.canvas"], condition, base.name)
    return _background(values, f"{layer}.canvas", engine, words)


def _background(values: Mapping[str, Any], name: str, engine: Engine, words: Strings) -> Image.Image | None:
    size = size_of(values, engine, words)
    return background(values[name], size, engine.studio.base.size_multiple)


def _mask(values: Mapping[str, Any], name: str, engine: Engine, words: Strings) -> Values:
    mask = painted(values[name])
    if mask is None:
        return {}
    return {"mask": reduced(mask, size_of(values, engine, words), engine.studio.base.size_multiple)}


def _shortest(number: float) -> str:
    """A number as `weight_of` reads it back to the last bit."""
    return repr(number).removesuffix(".0")


def _grey(image: Image.Image) -> Image.Image:
    return image.convert("L")
