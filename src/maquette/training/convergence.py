"""When does the condition take hold? Fidelity on fixed held-out conditions, with the code that users sample with."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette.base import Base
from maquette.conditions.perception import Eye
from maquette.controlnet.compose import Control
from maquette.controlnet.network import ControlNet
from maquette.data.diorama import Pairs
from maquette.foundation.images import to_unit
from maquette.foundation.sheets import sheet
from maquette.metrics.fidelity import fidelity
from maquette.sampling.generate import generate

STEPS = 12  # of sampling: fewer than the usual 20, for a number every hundred steps


@dataclass(frozen=True)
class Monitor:
    """Generates for the same held-out conditions from the same noise each time, without a prompt.

    No prompt, so that nothing but the condition can put things in their places; guidance has no effect then.
    """

    base: Base
    pairs: Pairs
    eye: Eye | None

    def measure(self, net: ControlNet, grid: Path | None = None) -> float:
        """Mean fidelity over the held-out conditions; a picture of all of them goes to `grid`."""
        rows = range(len(self.pairs))
        maps = [self.pairs.standard(row) for row in rows]
        training = net.training
        net.eval()
        with torch.no_grad():
            condition = torch.stack([to_unit(one) for one in maps])
            prompts = [""] * len(maps)
            pictures = generate(self.base, prompts, [Control(net, condition)], steps=STEPS, guidance=1, batch_size=16)
        net.train(training)
        scores = fidelity(self.pairs.condition, pictures, [self.pairs.truth(row) for row in rows], self.eye)
        if grid is not None:
            sources = [Image.fromarray(self.pairs.images[row]) for row in rows]
            sheet([maps, sources, pictures]).save(grid)
        return float(np.nanmean(scores))


def takes_hold(steps: list[int], scores: list[float]) -> int | None:
    """The step of sudden convergence: from there on, fidelity stays above half of its rise from first to best.

    None while the rise is under 0.05 or fewer than three measurements exist.
    """
    if len(scores) < 3 or max(scores) - scores[0] < 0.05 or math.isnan(scores[0]):
        return None
    middle = (scores[0] + max(scores)) / 2
    below = [number for number, score in enumerate(scores) if score < middle]
    after = below[-1] + 1
    return steps[after] if after < len(steps) else None
