"""What the cells of a study share: the base, the test scenes, and how ControlNets are trained and loaded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from maquette.ablation.request import SIX, Request
from maquette.base import Base
from maquette.checkpoints import load_base, load_controlnet
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.network import ControlNet
from maquette.controlnet.save import WEIGHTS
from maquette.evaluation.controlnet import Examples, Uncontrolled, unseen_scenes
from maquette.evaluation.protocol import Protocol
from maquette.foundation.images import image_grid
from maquette.training import checkpoint
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.loop import train

NETS = "nets"  # folder of the trained ControlNets


@dataclass
class Bench:
    """Loaded once for all cells."""

    request: Request
    base: Base
    _examples: dict[str, Examples] = field(default_factory=dict)

    @staticmethod
    def open(request: Request) -> "Bench":
        """Raises `MaquetteError` where the base cannot be loaded."""
        return Bench(request, load_base(request.base, request.device, "float32"))

    @cached_property
    def perception(self) -> PerceptionModel:
        """What scores images of the diorama, and gives features for the Fréchet distance."""
        return PerceptionModel(device=self.request.device)

    @cached_property
    def uncontrolled(self) -> Uncontrolled:
        """Images without control, generated once for all cells."""
        return Uncontrolled(self.base, self.request.protocol())

    @property
    def protocol(self) -> Protocol:
        """With the base's default steps and guidance."""
        return self.uncontrolled.protocol

    def examples(self, condition: str) -> Examples:
        """The first test scenes, which no training sees. Raises `MaquetteError` where none shows the condition."""
        if condition not in self._examples:
            self._examples[condition] = unseen_scenes(condition, self.request.tested, self.perception)
        return self._examples[condition]

    @property
    def six(self) -> list[int]:
        """Numbers of six scenes, drawn once for all cells, never picked."""
        drawn = np.random.default_rng(0).choice(self.request.tested, SIX, replace=False)
        return sorted(map(int, drawn))

    def sheet(self, rows: Mapping[str, Sequence[Image.Image]]) -> Image.Image:
        """Rows of six images each, by their labels; of more, the six that were drawn."""
        chosen = [[images[number] for number in self.six] if len(images) > SIX else images for images in rows.values()]
        return image_grid(chosen, labels=list(rows))

    def trained(self, name: str, condition: str, on: Base | None = None, **settings: Any) -> ControlNet:
        """A ControlNet trained in a folder of its own, or the rest of the way where its training was cut off.

        Args:
            on: another base than the study's, whose name is then among the settings.

        Raises `MaquetteError` as `train` does.
        """
        request, folder, base = self.request, self.request.output / NETS / name, on or self.base
        if (folder / WEIGHTS).exists() and not checkpoint.states(folder):  # finished, and its states are forgotten
            return load_controlnet(folder, base)
        config = TrainingConfig(
            condition=condition,
            output=folder,
            resume=(folder / CONFIG).exists(),
            **{
                "base": request.base,
                "device": request.device,
                "max_steps": request.steps,
                **({} if "data" in settings else {"scenes": request.scenes}),
                "batch_size": request.batch_size,
                "evaluate_every": 0,
                **settings,
            },
        )
        return load_controlnet(train(config, base), base)

    def forget_states(self, name: str) -> None:
        """Delete the states of a finished training, several times the size of its ControlNet."""
        for path in checkpoint.states(self.request.output / NETS / name):
            path.unlink()
