"""How ControlNets are measured: on how many scenes, how sampled, under which prompts. Torch is not imported for it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.base import Base

PROMPTS: dict[str, Callable[[list[str]], list[str]]] = {
    "true": lambda captions: captions,
    "default": lambda captions: [DEFAULT_PROMPT] * len(captions),
    "none": lambda captions: [""] * len(captions),
    "conflicting": lambda captions: [*captions[1:], captions[0]],
}
"""The paper's four kinds (v3 §4.1), from the scenes' captions: their own, the paper's usual one, none, another's."""


@dataclass(frozen=True)
class Protocol:
    scenes: int = 500  # of the test range, which no training sees
    steps: int | None = None  # of sampling, and its guidance: without a value the base's own
    guidance: float | None = None
    batch_size: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scenes < 2:
            raise MaquetteError(
                f"An evaluation takes 2 scenes or more, since one's caption serves another, not {self.scenes}."
            )

    def on(self, base: "Base") -> "Protocol":
        """With the base's own steps and guidance where none are given."""
        own = base.defaults
        steps = own.steps if self.steps is None else self.steps
        return replace(self, steps=steps, guidance=own.guidance if self.guidance is None else self.guidance)
