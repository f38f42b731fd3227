"""The evaluation protocol of ControlNets: scenes, sampling and prompts. This module does not import torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown
from maquette.sampling.config import Sampling
from maquette.sampling.speed import Speed, check_speed

if TYPE_CHECKING:
    from maquette.base import Base

PROMPTS: dict[str, Callable[[list[str]], list[str]]] = {
    "true": lambda captions: captions,
    "default": lambda captions: [DEFAULT_PROMPT] * len(captions),
    "none": lambda captions: [""] * len(captions),
    "conflicting": lambda captions: [*captions[1:], captions[0]],
}
"""The paper's four kinds (v3 §4.1), from the scenes' captions: true, the paper's default, none, another scene's."""

AUTOMATIC = "automatic"  # a fifth kind: captions of the images of the default prompt, as in the paper (v1 §4)


def check_kinds(kinds: Sequence[str]) -> None:
    """Raises `MaquetteError` for an unknown kind of prompt, for one given twice, and for none."""
    for kind in kinds:
        if kind not in (*PROMPTS, AUTOMATIC):
            raise MaquetteError(unknown("kind of prompt", kind, (*PROMPTS, AUTOMATIC)))
    if not kinds or len(set(kinds)) < len(kinds):
        raise MaquetteError(f"The kinds of prompt are each given once, one or more, not {','.join(kinds)!r}.")


@dataclass(frozen=True)
class Protocol:
    """Settings of an evaluation.

    Raises `MaquetteError` for fewer than 2 scenes, for unknown kinds, and for an unknown speed.
    """

    scenes: int = 500  # from the test range, which training never sees
    steps: int | None = None  # of sampling; like guidance, the base's default where it is None
    guidance: float | None = None
    batch_size: int = 32
    seed: int = 0
    kinds: tuple[str, ...] = tuple(PROMPTS)  # of prompts
    speed: Speed = "exact"

    def __post_init__(self) -> None:
        if self.scenes < 2:
            raise MaquetteError(
                f"An evaluation takes 2 scenes or more, since each also gets another's caption, not {self.scenes}."
            )
        check_kinds(self.kinds)
        check_speed(self.speed)

    def on(self, base: "Base") -> "Protocol":
        """The protocol with what its speed takes on the base where steps and guidance are None."""
        sampling = self.sampling(base)
        guidance: Any = sampling.guidance  # a number, as in the protocol
        return replace(self, steps=sampling.steps, guidance=guidance)

    def sampling(self, base: "Base") -> Sampling:
        """All settings that images are generated with."""
        return Sampling.on(base, self.speed, steps=self.steps, guidance=self.guidance)
