"""A request for pictures."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.rules import LONGEST, Rule, listed, optional, typed
from maquette.foundation.registry import unknown
from maquette.foundation.settings import Fit
from maquette.sampling.config import Sampling, check_prompts
from maquette.sampling.prompts import DEFAULT_PROMPT, PromptMode
from maquette.sampling.speed import PARTS, Decoder, Shares, Speed, parts_on
from maquette.studio.pictures import Picture, Resolve
from maquette.studio.requests.fields import NUMBER, about, anything, checked, pictures, within
from maquette.studio.requests.layer import Layer
from maquette.studio.requests.limits import Limits

if TYPE_CHECKING:
    from maquette.base import Base


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
        values = dict(checked(values, REQUEST, "a request"))
        if values.get("seed", 0) is None:
            values["seed"] = secrets.randbelow(2**31)
        layers = values.pop("layers", [])
        _check_limits(values, len(layers), limits)
        _check_sampling(values)
        read = {**values, **pictures(values, ("image", "mask"), limits, resolve)}
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
                layer.check(base, offered)


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


REQUEST: dict[str, Rule] = {
    "prompt": typed(str), "negative_prompt": typed(str), "prompt_kind": typed(PromptMode),
    "layers": listed(anything, 0, LONGEST), "image": anything, "mask": anything, "strength": NUMBER,
    "feather": optional(typed(int)), "sampler": optional(typed(str)), "steps": optional(typed(int)),
    "guidance": optional(NUMBER), "distilled_guidance": optional(NUMBER), "speed": typed(Speed),
    "guidance_interval": optional(listed(NUMBER, 2, 2)), "reuse": optional(typed(int)),
    "decoder": optional(typed(Decoder)), "condition_in": typed(str), "resolution_weights": typed(str),
    "size": optional(listed(typed(int, 1, LONGEST), 2, 2)), "seed": optional(typed(int)),
    "count": typed(int, 1), "base": optional(typed(str)), "fit": typed(Fit),
}  # fmt: skip
"""Every field, and what it may be by type; ranges are those of the library."""

assert set(REQUEST) == {one.name for one in fields(Request)}
