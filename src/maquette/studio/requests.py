"""What is asked of the studio: checked whole, by type, range and header, before anything is decoded or allocated.

This module does not import torch.
"""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, get_args

from maquette.conditions.labels import check_palette
from maquette.conditions.registry import detector_spec
from maquette.conditions.requirements import drawn_by
from maquette.controlnet.choices import Balance, Branch, check_strength
from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.rules import LONGEST, Rule, either, listed, optional, typed
from maquette.foundation.registry import unknown
from maquette.foundation.settings import Fit
from maquette.sampling.config import Sampling, check_prompts
from maquette.sampling.prompts import DEFAULT_PROMPT, PromptMode
from maquette.sampling.speed import PARTS, Decoder, Shares, Speed, parts_on
from maquette.studio.pictures import Picture, Resolve

if TYPE_CHECKING:
    from maquette.base import Base


@dataclass(frozen=True)
class Limits:
    """What one request, one client and the queue may take."""

    pixels: int = 1024 * 1024  # of each picture that is made
    steps: int = 150
    count: int = 8  # pictures of a request
    layers: int = 6
    prompt: int = 4000  # characters
    picture_pixels: int = 24_000_000  # of each picture that is given
    picture_bytes: int = 20 * 2**20
    request_bytes: int = 48 * 2**20
    waiting: int = 32  # requests in the queue
    per_client: int = 4  # of these from one client, with the one that is being made
    queue_bytes: int = 2**29  # of the pictures in it
    detecting: int = 8  # maps that are detected, or wait to be
    together: int = 8  # pictures that are made at once
    together_pixels: int = 2**19  # of them all: larger pictures fill the processor by themselves
    pictures: int = 500  # that a session keeps
    uploads: int = 64  # files of a session


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says which field of a request the errors inside are about. Raises `MaquetteError`."""
    try:
        yield
    except MaquetteError as error:
        error.field = error.field or name
        raise


@contextmanager
def within(name: str) -> Iterator[None]:
    """Says in which part of a request the field is that errors inside are about. Raises `MaquetteError`."""
    try:
        yield
    except MaquetteError as error:
        error.field = f"{name}.{error.field}" if error.field else name
        raise


@dataclass(frozen=True)
class Layer:
    """A control of a request: a picture to detect in, or a ready map, and how it acts.

    `controlnet.control.Control` documents the settings.
    """

    condition: str
    picture: Picture
    is_map: bool = False
    net: str | None = None  # one that the studio offers; None: the base's own for the condition
    weight: float | list[float] = 1.0
    start: float = 0.0
    end: float = 1.0
    mask: Picture | None = None  # the region where it acts: white
    balance: Balance = "balanced"  # the weights of the slots: even, softer for the prompt, or in the prompt's branch
    curve: list[list[float]] | None = None
    branch: Branch | None = None
    palette: str | None = None  # of a map of class numbers
    options: dict[str, Any] = field(default_factory=dict)  # of the detector

    @staticmethod
    def read(values: Any, limits: Limits, resolve: Resolve | None = None) -> "Layer":
        """From plain values by name. Raises `MaquetteError` with the field that it is about."""
        values = _checked(values, LAYER, "a layer", ("condition", "picture"))
        read = {**values, **_pictures(values, ("picture", "mask"), limits, resolve)}
        layer = Layer(**read)
        points = [(done, factor) for done, factor in layer.curve] if layer.curve else None
        settings: dict[str, Any] = {"weight": layer.weight, "start": layer.start, "end": layer.end}
        for name, value in settings.items():
            with about(name):
                usual: dict[str, Any] = {"weight": 1.0, "start": 0.0, "end": 1.0}
                check_strength(**{**usual, name: value})
        with about("end"):
            check_strength(layer.weight, layer.start, layer.end)
        with about("curve" if points else "balance"):
            check_strength(layer.weight, layer.start, layer.end, layer.balance, points, layer.branch)
        if layer.palette is not None:
            with about("palette"):
                check_palette(layer.palette)
        return layer

    def net_name(self, offered: Mapping[str, str]) -> str:
        """The ControlNet that it runs: the one named, else the first that is offered for the condition.

        Args:
            offered: the condition of each ControlNet that the studio offers, by name.

        Raises `MaquetteError` for one that is not offered, and where none is for the condition.
        """
        suited = [name for name, condition in offered.items() if condition == self.condition]
        if (self.net and self.net not in offered) or not (self.net or suited):
            kind = "ControlNet" if self.net else "ControlNet for the condition"
            known = list(offered) if self.net else list(dict.fromkeys(offered.values()))
            with about("net" if self.net else "condition"):
                raise MaquetteError(unknown(kind, self.net or self.condition, known))
        return self.net or suited[0]

    def detector(self, base: str) -> str | None:
        """The name of the detector that makes its map, the base's own if it has one; None for a ready map.

        Raises `MaquetteError` for an unknown detector, one that writes text, and for options that it does not have.
        """
        if self.is_map:
            return None
        name = drawn_by(self.condition, base)
        with about("condition"):
            spec = detector_spec(name)
            if spec.outputs_text:
                raise MaquetteError(f"{name} writes text, which is not a condition map; choose another condition.")
        with about("options"):
            spec.options.given(name, self.options)
        return name


@dataclass(frozen=True)
class Request:
    """Pictures to make. Of what is None the base decides; `sampling.generate` documents the settings."""

    prompt: str = ""
    negative_prompt: str = ""
    prompt_kind: PromptMode = "user"  # the paper's four kinds
    layers: tuple[Layer, ...] = ()
    image: Picture | None = None  # a start image
    mask: Picture | None = None  # white where it may change
    strength: float = 1.0
    feather: int | None = None
    sampler: str | None = None
    steps: int | None = None
    guidance: float | None = None
    distilled_guidance: float | None = None
    speed: Speed = "exact"  # decides steps, sampler and the next three, where they are None
    guidance_interval: Shares | None = None  # shares of the steps between which guidance acts
    reuse: int | None = None  # steps for one run of the encoder and the ControlNets
    decoder: Decoder | None = None
    condition_in: str = "both"
    resolution_weights: str = "normalised"
    size: tuple[int, int] | None = None  # (width, height) in pixels
    seed: int = 0  # picture i starts from the noise of seed + i
    count: int = 1
    base: str | None = None
    fit: Fit = "cut"  # how pictures of another shape get the size

    @staticmethod
    def read(values: Any, limits: Limits | None = None, resolve: Resolve | None = None) -> "Request":
        """From plain values by name, as JSON has them; a seed of None is drawn.

        Args:
            resolve: finds the files of the client's session that pictures are given by.

        Raises `MaquetteError` for anything out of type, range or limits; its `field` is that which it is about.
        """
        if isinstance(values, Request):
            return values
        limits = limits or Limits()
        values = dict(_checked(values, REQUEST, "a request"))
        if values.get("seed", 0) is None:
            values["seed"] = secrets.randbelow(2**31)
        layers = values.pop("layers", [])
        _check_limits(values, len(layers), limits)
        _check_sampling(values)
        read = {**values, **_pictures(values, ("image", "mask"), limits, resolve)}
        if values.get("mask") is not None and values.get("image") is None:
            with about("mask"):
                raise MaquetteError("A mask says which part of a start image may change; give image too.")
        found = []
        for number, layer in enumerate(layers):
            with within(f"layers.{number}"):
                found.append(Layer.read(layer, limits, resolve))
        pairs = {name: tuple(values[name]) for name in ("size", "guidance_interval") if values.get(name)}
        return Request(**{**read, **pairs, "layers": tuple(found)})

    @property
    def text(self) -> str:
        """The prompt to generate with; of an automatic one, that of the first generation."""
        return self.prompt if self.prompt_kind == "user" else "" if self.prompt_kind == "none" else DEFAULT_PROMPT

    @property
    def seeds(self) -> range:
        """The seed of each picture."""
        return range(self.seed, self.seed + self.count)

    @property
    def bytes(self) -> int:
        """What its pictures take while it waits."""
        pictures = [self.image, self.mask, *(one for layer in self.layers for one in (layer.picture, layer.mask))]
        return sum(picture.bytes for picture in pictures if picture is not None)

    def parts(self, base: "Base") -> dict[str, Any]:
        """What its speed decides on a base, by name: steps, sampler and the others, or what it gives itself."""
        decided = parts_on(base, self.speed)
        given = {name: value for name in PARTS if (value := getattr(self, name)) is not None}
        return {name: decided[name] for name in PARTS} | given

    def check(self, base: "Base", offered: Mapping[str, str]) -> None:
        """Check it against the base that is loaded and the ControlNets that are offered.

        Args:
            offered: as for `Layer.net_name`.

        Raises `MaquetteError` for what does not suit them; its `field` is that which it is about.
        """
        from maquette.sampling.size import check_size

        if self.base not in (None, base.name):
            with about("base"):
                raise MaquetteError(f"{unknown('base', self.base, [base.name])} This studio has one base loaded.")
        for name in ("sampler", "reuse", "decoder"):
            with about(name):
                Sampling.on(base, **{name: getattr(self, name)})
        if self.size is not None:
            with about("size"):
                check_size(base, self.size)
        for number, layer in enumerate(self.layers):
            with within(f"layers.{number}"):
                layer.net_name(offered)
                layer.detector(base.name)
                _check_slots(layer, base)


def _check_slots(layer: Layer, base: "Base") -> None:
    """Raises `MaquetteError` for another number of weights than the base has slots."""
    slots = len(base.backbone.slots)
    if isinstance(layer.weight, list) and len(layer.weight) != slots:
        with about("weight"):
            raise MaquetteError(
                f"A layer's list has {len(layer.weight)} weights; the base {base.name!r} has {slots} slots: give so "
                "many."
            )


def _check_limits(values: Mapping[str, Any], layers: int, limits: Limits) -> None:
    """Raises `MaquetteError` for more than a request may ask for."""
    width, height = values.get("size") or (1, 1)
    prompts = max(len(values.get(name, "")) for name in ("prompt", "negative_prompt"))
    for name, value, most, unit in (
        ("size", width * height, limits.pixels, "pixels a picture"),
        ("steps", values.get("steps") or 1, limits.steps, "steps"),
        ("count", values.get("count", 1), limits.count, "pictures a request"),
        ("layers", layers, limits.layers, "layers"),
        ("prompt", prompts, limits.prompt, "characters of a prompt"),
    ):
        if value > most:
            with about(name):
                raise MaquetteError(f"{most:,} {unit} are the most here, not {shortened(f'{value:,}')}.")


def _check_sampling(values: Mapping[str, Any]) -> None:
    """Raises `MaquetteError` for a setting of sampling, or a prompt, out of range."""
    for name in (
        "steps", "guidance", "distilled_guidance", "sampler", "speed", "guidance_interval", "reuse", "decoder",
        "condition_in", "resolution_weights", "strength", "feather", "seed",
    ):  # fmt: skip
        with about(name):
            Sampling.check(**{name: values.get(name)})
    with about("prompt"):
        check_prompts(values.get("prompt", ""), values.get("negative_prompt", ""), values.get("count", 1))
    with about("seed"):
        Sampling.check(seed=values.get("seed", 0) + values.get("count", 1) - 1)
    if values.get("prompt_kind", "user") != "user" and values.get("prompt"):
        with about("prompt"):
            raise MaquetteError(f"The prompt kind {values['prompt_kind']!r} makes the prompt; leave prompt empty.")


def _pictures(
    values: Mapping[str, Any], names: Sequence[str], limits: Limits, resolve: Resolve | None
) -> dict[str, Picture | None]:
    """The pictures of a request or layer, of which the headers have been read."""
    found: dict[str, Picture | None] = {}
    for name in names:
        if values.get(name) is None:
            continue
        with about(name):
            words = {"image": "the start image", "mask": "the mask"}.get(name, "the picture")
            picture = Picture.read(values[name], limits.picture_bytes, resolve, words)
            picture.size(limits.picture_pixels)
            found[name] = picture
    return found


def _checked(values: Any, rules: Mapping[str, Rule], what: str, needed: Sequence[str] = ()) -> Mapping[str, Any]:
    """Values whose names and types are known. Raises `MaquetteError` for others."""
    if not isinstance(values, Mapping):
        raise MaquetteError(f"{what[0].upper()}{what[1:]} is an object with fields, not {shortened(repr(values), 80)}.")
    for name in values:
        if name not in rules:
            with about(shortened(str(name), 40)):
                raise MaquetteError(unknown(f"field of {what}", name, list(rules)))
    for name in needed:
        if values.get(name) is None:
            with about(name):
                raise MaquetteError(f"{what[0].upper()}{what[1:]} needs the field {name!r}.")
    for name, value in values.items():
        if words := rules[name](value):
            with about(name):
                raise MaquetteError(f"{name} {shortened(words, 300)}.")
    return values


def _anything(value: Any) -> str | None:
    """The rule of pictures, which are read by themselves."""
    return None


def _options(value: Any) -> str | None:
    """The rule of a detector's options, which it checks itself."""
    if not isinstance(value, dict) or len(value) > 64:
        return f"is an object with the detector's options by name, not {shortened(repr(value), 80)}"
    plain = all(isinstance(item, str | int | float | bool | None) for item in value.values())
    return None if plain else "holds numbers and texts alone"


_NUMBER = typed(float)
LAYER: dict[str, Rule] = {
    "condition": typed(str), "picture": _anything, "is_map": typed(bool), "net": optional(typed(str)),
    "weight": either(_NUMBER, listed(_NUMBER, 1, 1000)), "start": _NUMBER, "end": _NUMBER, "mask": _anything,
    "balance": typed(Balance), "curve": optional(listed(listed(_NUMBER, 2, 2), 1, 1000)),
    "branch": optional(typed(Branch)), "palette": optional(typed(str)), "options": _options,
}  # fmt: skip
REQUEST: dict[str, Rule] = {
    "prompt": typed(str), "negative_prompt": typed(str), "prompt_kind": typed(PromptMode),
    "layers": listed(_anything, 0, LONGEST), "image": _anything, "mask": _anything, "strength": _NUMBER,
    "feather": optional(typed(int)), "sampler": optional(typed(str)), "steps": optional(typed(int)),
    "guidance": optional(_NUMBER), "distilled_guidance": optional(_NUMBER), "speed": typed(Speed),
    "guidance_interval": optional(listed(_NUMBER, 2, 2)), "reuse": optional(typed(int)),
    "decoder": optional(typed(Decoder)), "condition_in": typed(str), "resolution_weights": typed(str),
    "size": optional(listed(typed(int, 1, LONGEST), 2, 2)), "seed": optional(typed(int)),
    "count": typed(int, 1), "base": optional(typed(str)), "fit": typed(Fit),
}  # fmt: skip
"""Every field, and what it may be by type; ranges are those of the library."""

assert set(LAYER) == {one.name for one in fields(Layer)} and set(REQUEST) == {one.name for one in fields(Request)}
PROMPT_KINDS: tuple[str, ...] = get_args(PromptMode)
