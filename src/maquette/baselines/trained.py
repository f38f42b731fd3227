"""Methods that learn: in stages, each with its own loss, which one loop trains, keeps and resumes."""

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn

from maquette.base import Base
from maquette.baselines.batches import Batch, Batches
from maquette.baselines.protocol import RECORD, WEIGHTS, Budget, Method, check_sizes
from maquette.baselines.steps import descend, steps, taken
from maquette.checkpoints.networks import check_tensors
from maquette.data.pairs import Pairs
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.formats.write import write_weights
from maquette.foundation.declared import Declared
from maquette.foundation.files import atomic_write, exclusive
from maquette.foundation.reading.documents import parse_json, read_json
from maquette.foundation.weights import open_weights
from maquette.training.stages import cosine

BUDGET = "budget.json"  # what a run began with
CLIP = 1.0  # largest norm of the gradient
WARMUP = 100  # steps, or a tenth of a stage's


@dataclass(frozen=True)
class Stage:
    """A part of a training: which networks learn, by which loss."""

    name: str
    share: float  # of the budget's steps
    learning: tuple[str, ...]  # names in the method's `networks`; all others are locked
    loss: Callable[[Batch, torch.Generator], Tensor]  # scalar, of a batch and the step's source of chance
    rate: float  # the highest learning rate


@dataclass(frozen=True)
class Place:
    """Where a training keeps its states, and its chance: drawn on the CPU, so that it is the same on every device."""

    run: Path
    seed: int
    device: str = "cpu"


class Trained(ABC):
    """A `Method` that learns; subclasses give networks, stages and pictures.

    Args:
        condition: that it is trained for.
        settings: an instance of the class's `Settings`.
    """

    name: ClassVar[str]
    takes_text: ClassVar[bool]
    conditions: ClassVar[tuple[str, ...] | None]
    Settings: ClassVar[type[Declared]]
    networks: nn.ModuleDict

    def __init__(self, base: Base, condition: str, settings: Any) -> None:
        self.base, self.condition, self.settings = base, condition, settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # initial weights are the same for every run
            self.networks = self.build()
        self.networks.float().to(base.device).requires_grad_(False).eval()

    @abstractmethod
    def build(self) -> nn.ModuleDict:
        """Networks with initial weights."""

    @abstractmethod
    def stages(self) -> tuple[Stage, ...]:
        """What is trained, in order; their shares add up to 1."""

    @abstractmethod
    def pictures(self, prompts: Sequence[str], maps: Sequence[Image.Image], seeds: Sequence[int]) -> list[Image.Image]:
        """See `Method`."""

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        learning = {name for stage in self.stages() for name in stage.learning}
        return sum(weight.numel() for name in learning for weight in self.networks[name].parameters())

    def train(self, pairs: Pairs, budget: Budget, run: Path) -> None:
        """Train, or go on, as `Method` says.

        Raises `MaquetteError` for pairs of another condition or size, and for a run that began otherwise.
        """
        _check_pairs(self, pairs)
        run.mkdir(parents=True, exist_ok=True)
        with exclusive(run):
            _keep_budget(run, {**asdict(budget), **self.record(), "pairs": len(pairs)})
            batches = Batches(self.base, pairs, budget.batch_size)
            for stage, length in self.lengths(budget.steps):
                self._train_stage(stage, length, batches, budget, run)
            save(self, run)

    def lengths(self, total: int) -> list[tuple[Stage, int]]:
        """The stages with their numbers of steps, which add up to `total`."""
        stages = self.stages()
        ends = [round(total * share) for share in accumulate(stage.share for stage in stages)]
        return [(stage, end - first) for stage, end, first in zip(stages, ends, [0, *ends], strict=False)]

    def record(self) -> dict[str, Any]:
        """What its weights belong to."""
        return {
            "method": self.name,
            "condition": self.condition,
            "settings": asdict(self.settings),
            "base": self.base.hash(),
        }

    def _train_stage(self, stage: Stage, length: int, batches: Batches, budget: Budget, run: Path) -> None:
        """Train the networks of a stage for the steps that are left of it."""
        for name in stage.learning:
            self.networks[name].requires_grad_(True).train()
        weights = [weight for name in stage.learning for weight in self.networks[name].parameters()]
        optimizer = torch.optim.AdamW(weights, lr=stage.rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
        parts = {"networks": self.networks, "optimizer": optimizer}
        losses: list[Tensor] = []
        rate, place = partial(_rate, stage.rate, length), Place(run, budget.seed)
        for step, source in steps(stage.name, place, length, rate, parts, partial(taken, losses), budget.keep_every):
            loss = stage.loss(batches.draw(step, source), source)
            descend(optimizer, loss, CLIP)
            losses.append(loss.detach())
        self.networks.requires_grad_(False).eval()


def _rate(highest: float, length: int, step: int) -> float:
    """The learning rate of a step of a stage of so many."""
    return highest * cosine(step, length, warmup=min(WARMUP, length // 10), hold=0.5)


def mixed(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 what tolerates it."""
    return torch.autocast(device.type, torch.bfloat16)


def _check_pairs(method: Trained, pairs: Pairs) -> None:
    """Raises `MaquetteError` for pairs of another condition or size than a method's."""
    if pairs.condition != method.condition:
        raise MaquetteError(
            f"This {method.name} is for the condition {method.condition!r}, and the pairs show {pairs.condition!r}; "
            "make it for the condition of the pairs."
        )
    check_sizes([pairs.shape(0)], method.base.size)


def _keep_budget(run: Path, begun: dict[str, Any]) -> None:
    """Write what a run begins with into its folder. Raises `MaquetteError` if it began with something else."""
    path = run / BUDGET
    if not path.exists():
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(begun, indent=2) + "\n")
        return
    try:
        kept = dict(read_json(path))
    except (OSError, ValueError, TypeError) as error:
        raise MaquetteError(f"{str(path)!r} cannot be read ({error}); name another folder.") from error
    for name, value in parse_json(json.dumps(begun)).items():
        if kept.get(name) != value:
            raise MaquetteError(
                f"The run in {str(run)!r} began with {name} = {kept.get(name)!r}, not {value!r}; give what it began "
                "with, or another folder."
            )


def save(method: Trained, folder: Path) -> None:
    """Write networks and record into a folder, from which `fill` reads them."""
    write_weights(method.networks.state_dict(), folder / WEIGHTS, {})
    with atomic_write(folder / RECORD) as path:
        path.write_text(json.dumps(method.record(), indent=2) + "\n")


def fill(method: Method, folder: Path, base: object) -> Method:
    """A method with the weights of a folder; warns if they were trained on another base.

    Args:
        base: the hash of that one.

    Raises `MaquetteError` for weights that are missing, broken or of other networks.
    """
    assert isinstance(method, Trained), "only methods that learn have a folder"
    weights = open_weights(folder / WEIGHTS)
    expected = {name: tuple(value.shape) for name, value in method.networks.state_dict().items()}
    check_tensors(
        weights,
        {name: name for name in weights},
        expected,
        method.name,
        foreign="train it again",
        misshapen="record and weights are of different runs: train it again",
    )
    method.networks.load_state_dict(dict(weights))
    if base != method.base.hash():
        message = f"{str(folder)!r} was trained on another base than {method.base.name!r}; its pictures mean little."
        warnings.warn(message, MaquetteWarning, stacklevel=2)
    return method
