"""What is asked of a study, checked as a whole. This module does not import torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from maquette.baselines.registry import TRAINED as BASELINES
from maquette.controlnet.choices import Variant
from maquette.diorama.constants import CONDITIONS
from maquette.errors import MaquetteError
from maquette.evaluation.protocol import Protocol
from maquette.foundation.registry import unknown
from maquette.training.config import TrainingConfig

ALL = 32_000  # scenes that stand for all there are: as many as the bundled base was trained on
SIX = 6  # images on a sheet, as in the paper

TRAINED = ("seeds", "steps", "scenes", "batch_size")
TESTED = ("tested", "sampling_steps", "guidance")
TRANSFERRED = ("steps", "scenes", "batch_size")
STUDIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "design": ("which design of ControlNet follows best", ("conditions", "variants", *TRAINED, *TESTED)),
    "pairs": ("how fidelity grows with the number of training pairs", ("conditions", "sizes", *TRAINED, *TESTED)),
    "guidance": ("where in guidance a condition enters, without a prompt", ("nets", *TESTED)),
    "composition": ("two controls together against each alone", ("nets", *TESTED)),
    "coarse": ("how far shapes are kept where the control ends early", ("nets", *TESTED)),
    "transfer": ("whether a ControlNet serves a base that was fine-tuned", ("nets", *TRANSFERRED, *TESTED)),
    "methods": ("how other methods follow after as many steps", ("conditions", "methods", *TRAINED, "tested")),
    "convergence": (
        "whether a ControlNet converges suddenly, and when",
        ("conditions", "every", "levers", *TRAINED, "tested"),
    ),
}
"""By name: the question, and the settings that the study uses."""

LEVERS: dict[str, tuple[Any, ...]] = {
    "learning_rate": (3e-4, 3e-3),
    "prompt_drop": (0.0, 0.9),
    "variant": ("gaussian", "lite"),
    "optimizer_name": ("muon",),
}
"""Settings of the training that `convergence` changes one at a time, and to what."""

METHODS = ("base", *BASELINES, "lite", "controlnet")
"""Of `methods`, in the order of the paper's tables."""

NETS = {
    "guidance": ("diorama/canny", "diorama/segmentation"),
    "composition": ("diorama/canny+diorama/segmentation", "diorama/depth+diorama/pose"),
    "coarse": ("diorama/canny", "diorama/segmentation"),
    "transfer": ("diorama/canny",),
}
"""The ControlNets of the studies that are given some; + joins two."""


@dataclass(frozen=True)
class Request:
    """A study and its settings. Those that it does not use have no effect.

    Raises `MaquetteError` for an unknown name, a number out of range, and sets too small to draw from.
    """

    study: str
    output: Path
    base: str = "diorama"
    conditions: tuple[str, ...] = ("canny", "segmentation")
    variants: tuple[str, ...] = tuple(name for name in get_args(Variant) if name != "context")  # what U-Nets have
    methods: tuple[str, ...] = METHODS  # those that do not take a condition are left out for it
    sizes: tuple[int, ...] = (100, 1000, 10_000, ALL)  # training scenes
    nets: tuple[str, ...] = ()  # names of ControlNets; by default the study's
    seeds: int = 3  # trainings of each kind, with the seeds 0, 1, ...
    steps: int = 1000  # optimizer steps of a training
    scenes: int = 8000  # that it sees
    batch_size: int = 32  # of a training
    every: int = 10  # steps between measurements of `convergence`
    levers: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: dict(LEVERS))
    tested: int = 100  # test scenes, or held-out ones for `convergence`
    sampling_steps: int | None = None  # like guidance, the base's default where it is None
    guidance: float | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.study not in STUDIES:
            raise MaquetteError(unknown("study", self.study, STUDIES))
        _check_known("condition of the diorama", self.conditions, CONDITIONS)
        _check_known("ControlNet variant", self.variants, get_args(Variant))
        _check_known("method", self.methods, METHODS)
        if not self.sizes:
            raise MaquetteError("Name one size of the training set at least.")
        _check_known("setting of a training to change", tuple(self.levers), LEVERS)
        least = {"seeds": 1, "steps": 1, "scenes": 1, "batch_size": 1, "every": 1, "tested": SIX}
        for name, low in least.items():
            if getattr(self, name) < low:
                why = f", since {SIX} of them are shown" if name == "tested" else ""
                raise MaquetteError(f"{name} is {low} or more{why}, not {getattr(self, name)}.")
        smallest = min((*self.sizes, self.scenes) if self.study == "pairs" else (self.scenes,))
        if smallest < self.batch_size:
            raise MaquetteError(
                f"A training set has at least one batch of {self.batch_size} scenes (batch_size), not {smallest}."
            )
        measured = 1 + self.steps // self.every
        if self.study == "convergence" and measured < 3:
            raise MaquetteError(
                f"convergence takes 3 measurements or more, not {measured}: every {self.every} steps of {self.steps}."
            )
        for name in self.names_of_nets if self.study == "composition" else ():
            if name.count("+") != 1:
                raise MaquetteError(f"composition takes two ControlNets joined by +, such as a+b, not {name!r}.")
        for lever, values in self.levers.items():
            for value in values:
                TrainingConfig(condition=self.conditions[0], output=self.output, **{lever: value})

    @property
    def names_of_nets(self) -> tuple[str, ...]:
        return self.nets or NETS.get(self.study, ())

    @property
    def used(self) -> dict[str, Any]:
        """The settings that the study's results depend on."""
        values = asdict(self) | {"nets": self.names_of_nets, "levers": dict(self.levers)}
        return {name: values[name] for name in ("study", "base", "device", *STUDIES[self.study][1])}

    def protocol(self) -> Protocol:
        """How images are generated and scored, as by `maquette evaluate`."""
        return Protocol(self.tested, self.sampling_steps, self.guidance)


def _check_known(kind: str, names: tuple[str, ...], known: Any) -> None:
    """Raises `MaquetteError` for names that are unknown, missing or repeated."""
    for name in names:
        if name not in known:
            raise MaquetteError(unknown(kind, name, known))
    if len(set(names)) < max(len(names), 1) and kind != "setting of a training to change":
        raise MaquetteError(f"Name each {kind} once, and one at least, not {', '.join(names) or 'none'}.")
