"""Sampling settings: steps, guidance, sampler and others. This module does not import torch."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.reading.documents import is_text
from maquette.foundation.registry import unknown
from maquette.noise.choices import SAMPLERS, steps_taken
from maquette.sampling.speed import (
    MOST_REUSE,
    PARTS,
    WHOLE,
    Decoder,
    Shares,
    check_interval,
    check_parts,
    check_speed,
    parts_on,
)

if TYPE_CHECKING:
    from torch import Tensor

    from maquette.backbones.residuals import Residuals
    from maquette.base import Base
    from maquette.noise.process import Sampler, SamplerFactory

ConditionIn = Literal["both", "conditional", "weighted"]
ResolutionWeights = Literal["normalised", "literal"]
Returns = Literal["images", "latents"]


class Guided(Protocol):
    """What guidance sees of a step, besides the two predictions; latents (B, C, h, w)."""

    index: int  # of the step, from 0
    steps: int  # number of steps
    time: "Tensor"

    @property
    def latents(self) -> "Tensor": ...

    @property
    def residuals(self) -> "Residuals | None": ...


Guidance = Callable[["Tensor", "Tensor", Guided], "Tensor"]
"""One prediction (B, C, h, w) from the unconditional and the conditional one, float32 and of the same shape."""

MOST_STEPS = 1000
MOST_IMAGES = 10**6  # of a call
MOST_SEEDS = 2**63
WIDEST_FEATHER = 128  # pixels


@dataclass(frozen=True)
class Sampling:
    """Settings of a generation other than the prompt and the controls.

    Raises `MaquetteError` for a value out of range or an unknown name.
    """

    steps: int = 20  # 1 to 1000
    guidance: float | Guidance = 9.0  # β of classifier-free guidance, 0 to 50, 1 turns it off; or a function
    distilled_guidance: float | None = None  # scale given to a base that takes one, 0 to 50; None: as in training
    condition_in: ConditionIn = "both"  # both branches, the conditional one alone, or that with resolution weights
    resolution_weights: ResolutionWeights = "normalised"  # for condition_in="weighted"
    sampler: "str | SamplerFactory" = "ddim"  # a name, or what makes a sampler
    strength: float = 1.0  # of the noise added to a start image: above 0, up to 1
    seed: int = 0  # image i uses seed + i
    batch_size: int = 8  # images generated at once
    feather: int | None = None  # of a mask's soft edge, pixels; None: one latent cell
    returns: Returns = "images"
    guidance_interval: Shares = WHOLE  # shares of the steps between which guidance acts
    reuse: int = 1  # steps for one run of the encoder and the ControlNets, 1 to 10
    decoder: Decoder = "full"

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1, MOST_STEPS)
        _whole("seed", self.seed, 0, MOST_SEEDS)
        _whole("batch_size", self.batch_size, 1, None)
        if not callable(self.guidance):
            _number("guidance", self.guidance, 0, 50)
        if self.distilled_guidance is not None:
            _number("distilled_guidance", self.distilled_guidance, 0, 50)
        _number("strength", self.strength, 0, 1)
        _whole("reuse", self.reuse, 1, MOST_REUSE)
        object.__setattr__(self, "guidance_interval", check_interval(self.guidance_interval))
        if self.feather is not None:
            _whole("feather", self.feather, 0, WIDEST_FEATHER)
        if self.strength == 0:
            raise MaquetteError("strength is above 0: at 0 nothing would be generated.")
        for name, known in (
            ("condition_in", list(get_args(ConditionIn))),
            ("resolution_weights", list(get_args(ResolutionWeights))),
            ("returns", list(get_args(Returns))),
            ("decoder", list(get_args(Decoder))),
            ("sampler", list(SAMPLERS)),
        ):
            value = getattr(self, name)
            if not (name == "sampler" and callable(value)) and value not in known:
                raise MaquetteError(unknown(name, value, known))

    @staticmethod
    def check(speed: str | None = None, **settings: Any) -> None:
        """Check settings before the base is loaded; None stands for what the base or the speed decides.

        Raises `MaquetteError` for a value out of range or an unknown name.
        """
        check_speed(speed or "exact")
        Sampling(**{name: value for name, value in settings.items() if value is not None})

    @staticmethod
    def on(base: "Base", speed: str = "exact", **settings: Any) -> "Sampling":
        """The settings; what the speed or the base decides where steps, guidance, sampler or a part of speed is None.

        Raises `MaquetteError` for a value out of range, a sampler that the base's noise process does not support, and a
        part of speed that the base cannot take.
        """
        decided = {name: value for name, value in parts_on(base, speed).items() if settings.get(name) is None}
        if speed != "exact" and not decided.keys() & set(PARTS):
            warnings.warn(
                f"speed={speed!r} has no effect: {', '.join(PARTS)} are all given.", MaquetteWarning, stacklevel=3
            )
        sampling = Sampling(**{**settings, **decided})
        if isinstance(sampling.sampler, str) and sampling.sampler not in base.noise.samplers:
            known = list(base.noise.samplers)
            raise MaquetteError(f"For the base {base.name!r}: {unknown('sampler', sampling.sampler, known)}")
        check_parts(base, sampling.reuse, sampling.decoder)
        return sampling

    def make_sampler(self, base: "Base", tokens: int, started: bool) -> "Sampler":
        """A new sampler, for one batch of images of so many tokens, with or without a start image."""
        strength = self.strength if started else 1.0
        if callable(self.sampler):
            return self.sampler(self.steps, tokens, strength, base.device)
        return base.noise.sampler(self.sampler, self.steps, tokens, strength, base.device)

    def steps_taken(self, started: bool) -> int:
        """Number of steps that run: with a start image, only the last `strength` of them."""
        return steps_taken(self.steps, self.strength) if started else self.steps


def _whole(name: str, value: object, least: int, most: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise MaquetteError(f"{name} is a whole number {span}, not {value!r}.")


def _number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:  # NaN fails every comparison
        raise MaquetteError(f"{name} lies between {least} and {most}, not {value!r}.")


def check_prompts(prompt: str | Sequence[str], negative: str, count: int) -> list[str]:
    """One prompt per image; the negative prompt is shared.

    Raises `MaquetteError` for a prompt that is not a string or no text, an empty list, or a count out of range.
    """
    _whole("count", count, 1, MOST_IMAGES)
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else []
    if not prompts or not all(isinstance(text, str) for text in prompts):
        raise MaquetteError(f"A prompt is a string, or a list of strings with one per image, not {prompt!r}.")
    for text in (*dict.fromkeys(prompts), negative):
        if isinstance(text, str) and not is_text(text):
            raise MaquetteError(f"The prompt {text!a} holds half of an emoji or another broken letter; rewrite it.")
    if not isinstance(negative, str):
        raise MaquetteError(
            f"A prompt is a string, and the negative prompt one string for all images, not {negative!r}."
        )
    return prompts
