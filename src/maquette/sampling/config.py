"""How to sample: steps, guidance, sampler and what else can be chosen; torch is not imported for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.noise.choices import SAMPLERS, steps_taken

if TYPE_CHECKING:
    from maquette.base import Base

ConditionIn = Literal["both", "conditional", "weighted"]
ResolutionWeights = Literal["normalised", "literal"]

MOST_STEPS = 1000
MOST_SEEDS = 2**63


@dataclass(frozen=True)
class Sampling:
    """How to sample, beside the prompt and the controls."""

    steps: int = 20  # 1 to 1000
    guidance: float = 9.0  # β of classifier-free guidance, 0 to 50; 1 is none
    condition_in: ConditionIn = "both"  # both branches, the conditional one, or there with resolution weights
    resolution_weights: ResolutionWeights = "normalised"  # of condition_in="weighted"
    sampler: str = "ddim"
    strength: float = 1.0  # with a start image: share of the noise put on it, above 0 to 1
    seed: int = 0  # image i starts from seed + i
    batch_size: int = 8  # images at once

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1, MOST_STEPS)
        _whole("seed", self.seed, 0, MOST_SEEDS)
        _whole("batch_size", self.batch_size, 1, None)
        _number("guidance", self.guidance, 0, 50)
        _number("strength", self.strength, 0, 1)
        if self.strength == 0:
            raise MaquetteError("strength is above 0: at 0 nothing would be generated.")
        for name, known in (
            ("condition_in", list(get_args(ConditionIn))),
            ("resolution_weights", list(get_args(ResolutionWeights))),
            ("sampler", list(SAMPLERS)),
        ):
            if getattr(self, name) not in known:
                raise MaquetteError(unknown(name, getattr(self, name), known))

    @staticmethod
    def check(**asked: Any) -> None:
        """Of what is asked for, all that can be said before the base is there; None is the base's own.

        Raises `MaquetteError` for a value out of range or an unknown name.
        """
        Sampling(**{name: value for name, value in asked.items() if value is not None})

    @staticmethod
    def on(base: "Base", **asked: Any) -> "Sampling":
        """What is asked for, and of steps, guidance and sampler what suits the base where they are None.

        Raises `MaquetteError` for a value out of range, or a sampler that the base's noise does not know.
        """
        own = {name: value for name, value in vars(base.defaults).items() if asked.get(name) is None}
        sampling = Sampling(**{**asked, **own})
        if sampling.sampler not in base.noise.samplers:
            known = list(base.noise.samplers)
            raise MaquetteError(f"For the base {base.name!r}: {unknown('sampler', sampling.sampler, known)}")
        return sampling

    def steps_taken(self, started: bool) -> int:
        """With a start image, the last ones alone."""
        return steps_taken(self.steps, self.strength) if started else self.steps


def _whole(name: str, value: object, least: int, most: int | None) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least or (most is not None and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise MaquetteError(f"{name} is a whole number {span}, not {value!r}.")


def _number(name: str, value: object, least: float, most: float) -> None:
    if not isinstance(value, int | float) or not least <= value <= most:  # a NaN is in no span
        raise MaquetteError(f"{name} lies between {least} and {most}, not {value!r}.")


def check_prompts(prompt: str | Sequence[str], negative: str, count: int) -> list[str]:
    """One prompt an image; there is one negative prompt for all."""
    _whole("count", count, 1, None)
    prompts = [prompt] * count if isinstance(prompt, str) else list(prompt or ())
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise MaquetteError(f"A prompt is a text, or a list of texts with one an image, not {prompt!r}.")
    if not isinstance(negative, str):
        raise MaquetteError(f"A prompt is a text, and a negative prompt one for all images, not {negative!r}.")
    return prompts
