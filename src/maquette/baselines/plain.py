"""What the comparison methods are compared with: the base without control, and a ControlNet of any variant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from PIL import Image

from maquette.base import Base
from maquette.baselines.diffusion import TOGETHER
from maquette.baselines.protocol import Budget, check_names, check_request, runs_of_seeds
from maquette.checkpoints.controlnets import load_contract, load_controlnet
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data.pairs import Pairs
from maquette.errors import MaquetteError
from maquette.foundation.declared import Declared
from maquette.sampling.generate import generate


@dataclass(frozen=True)
class NoSettings(Declared):
    """There is nothing to set."""


class Plain:
    """The base: it follows the prompts and ignores the maps."""

    name: ClassVar[str] = "base"
    takes_text: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...] | None] = None
    Settings: ClassVar[type[Declared]] = NoSettings

    def __init__(self, base: Base, condition: str, settings: NoSettings) -> None:
        self.base, self.condition = base, condition

    @property
    def parameters(self) -> int:
        """None is learnt."""
        return 0

    def train(self, pairs: Pairs, budget: Budget, run: Path) -> None:
        """Raises `MaquetteError`: there is nothing to train."""
        raise MaquetteError("The base without control learns nothing: load('base', base) makes its pictures.")

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)
        return _generated(self.base, None, prompts, maps, seeds)


class Controlled:
    """A ControlNet, of any variant, that is already trained.

    Raises `MaquetteError` without one: `registry.make` has none, `registry.load` finds it.
    """

    name: ClassVar[str] = "controlnet"
    takes_text: ClassVar[bool] = True
    conditions: ClassVar[tuple[str, ...] | None] = None
    Settings: ClassVar[type[Declared]] = NoSettings

    def __init__(self, base: Base, condition: str, settings: NoSettings, net: ControlNet | None = None) -> None:
        if net is None:
            raise MaquetteError(
                "A ControlNet is trained by `maquette train`; give its folder or name, such as 'diorama/canny'."
            )
        self.base, self.condition, self.net = base, condition, net

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(weight.numel() for weight in self.net.parameters())

    def train(self, pairs: Pairs, budget: Budget, run: Path) -> None:
        """Raises `MaquetteError`: a ControlNet has a trainer of its own."""
        raise MaquetteError("A ControlNet is trained by `maquette train`, with --variant for the ablations.")

    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""
        check_request(self, prompts, maps, seeds, self.base.size)
        return _generated(self.base, self.net, prompts, maps, seeds)


def controlled(name: str | Path, base: Base, **settings: object) -> Controlled:
    """A ControlNet as a method, for the condition that its contract names.

    Args:
        name: as `load_controlnet` takes it.
        settings: there are none.

    Raises `MaquetteError` for what is no ControlNet, and for any setting.
    """
    check_names("setting of 'controlnet'", list(settings), [])
    return Controlled(
        base, (load_contract(name).detector or "").removeprefix("diorama/"), NoSettings(), load_controlnet(name, base)
    )


def _generated(
    base: Base, net: ControlNet | None, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]
) -> list[Image.Image]:
    """Pictures by `generate` with the base's defaults."""
    pictures: list[Image.Image] = []
    for rows in runs_of_seeds(seeds, TOGETHER):
        controls = [] if net is None else [Control(net, list(maps[rows]))]
        pictures += generate(base, prompts[rows], controls, seed=seeds[rows.start], batch_size=TOGETHER, record=False)
    return pictures
