"""How a ControlNet works, in pictures of one scene that differ in one thing: its training, its beginning, a residual,
its strength.

Each panel makes its pictures one after the other, between the requests of others.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from maquette.checkpoints import load_controlnet
from maquette.controlnet.choices import Variant
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.diorama.scene import scene
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.sampling.generate import generate
from maquette.studio.engine import Engine
from maquette.studio.trainings.run import Trainings

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
STEPS = 10


@dataclass(frozen=True)
class Shown:
    """A picture of a panel."""

    image: Image.Image
    key: str  # of the words that say what is special about it
    value: object = ""  # for a gap in them
    score: float | None = None  # how well it follows the map, where that can be told


@dataclass(frozen=True)
class Subject:
    """What the pictures of a panel have in common.

    Args:
        number: of a scene of the diorama, 0 or more.
    """

    condition: str
    number: int
    seed: int = 0


class Panels:
    """The panels.

    Args:
        trainings: of which one that kept ControlNets on its way is shown.
    """

    def __init__(self, engine: Engine, trainings: Trainings | None = None) -> None:
        self.engine, self.trainings = engine, trainings

    def map_of(self, subject: Subject) -> Image.Image:
        """The map that every picture of a subject is given, RGB.

        Raises `MaquetteError` for a number that no scene has, and for an unknown condition.
        """
        found = self.engine.detectors.detect(subject.condition, scene(subject.number).image)
        assert isinstance(found, Image.Image), "conditions have maps"
        return found

    def jump(self, subject: Subject) -> Iterator[Shown]:
        """By what the newest training of a condition kept on its way, and by the ControlNet that is offered.

        Raises `MaquetteError` where none has kept any.
        """
        states = self._states(subject.condition)
        for steps, path in states.items():
            yield self._made(subject, "after_steps", steps, load_controlnet(str(path), self.engine.studio.base))
        yield self._made(subject, "ready", "", self._net(subject))

    def beginnings(self, subject: Subject) -> Iterator[Shown]:
        """Before the first step of a training: the base alone, with zero convolutions, and with Gaussian weights."""
        yield self._made(subject, "base_alone", "", None)
        yield self._made(subject, "with_zero", "", self._fresh["zero"])
        yield self._made(subject, "with_gaussian", "", self._fresh["gaussian"])

    def residuals(self, subject: Subject) -> Iterator[Shown]:
        """With all residuals, then without each of them, shallow to deep."""
        net = self._net(subject)
        yield self._made(subject, "all_slots", "", net)
        for slot, place in enumerate(net.slots):
            weights = [float(number != slot) for number in range(len(net.slots))]
            yield self._made(subject, "without_slot", f"{slot + 1} ({place.name})", net, weights)

    def strengths(self, subject: Subject) -> Iterator[Shown]:
        """By the control's weight."""
        for weight in STRENGTHS:
            yield self._made(subject, "at_weight", weight, self._net(subject), weight)

    def _states(self, condition: str) -> dict[int, Path]:
        """What the newest training of a condition kept, by steps. Raises `MaquetteError` where none has kept any."""
        base = self.engine.studio.base.name
        for training in self.trainings.listed() if self.trainings else ():
            own = training.config is not None and (training.config.condition, training.config.base)
            if own == (condition, base) and (states := training.states()):
                return states
        raise MaquetteError(
            f"No training of {condition!r} has kept ControlNets on its way here. Start one in Train, or with "
            f"maquette train diorama/{condition} --base {base} --keep-every 50 --output runs/{condition}."
        )

    @cached_property
    def _fresh(self) -> dict[Variant, ControlNet]:
        """ControlNets before the first step of a training."""
        variants: tuple[Variant, ...] = ("zero", "gaussian")
        return {variant: ControlNet.attach(self.engine.studio.base, variant=variant) for variant in variants}

    def _net(self, subject: Subject) -> ControlNet:
        """The first that is offered for a condition. Raises `MaquetteError` if there is none."""
        suited = [name for name, condition in self.engine.nets.items() if condition == subject.condition]
        if not suited:
            raise MaquetteError(f"No ControlNet is offered for {subject.condition!r}.")
        return self.engine.studio.net(suited[0])

    def _made(
        self, subject: Subject, key: str, value: object, net: ControlNet | None, weight: float | list[float] = 1.0
    ) -> Shown:
        map_, words = self.map_of(subject), scene(subject.number).caption
        with self.engine.aside() as studio, warnings.catch_warnings():
            warnings.simplefilter("ignore", MaquetteWarning)  # such as that a weight of 0 has no effect
            controls = [] if net is None else [Control(net, map_, weight)]
            (image,) = generate(
                studio.base, words, controls, steps=STEPS, seed=subject.seed, size=map_.size, batch_size=1
            )
        return Shown(image, key, value, self.engine.detectors.fidelity(subject.condition, image, map_).score)
