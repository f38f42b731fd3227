"""When does the condition take hold? Two instruments, on fixed held-out pairs.

Fidelity: generate with the code that users sample with, detect the condition again, score it.
Gain: what the condition takes off the loss at several noise levels; cheap, and there is no loss of its own to hide in.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
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
from maquette.training.step import noise_schedule, target

LEVELS = (100, 300, 500, 700, 900)  # timesteps at which the gain is taken
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
        with _at_rest(net), torch.no_grad():
            condition = torch.stack([to_unit(one) for one in maps])
            prompts = [""] * len(maps)
            pictures = generate(self.base, prompts, [Control(net, condition)], steps=STEPS, guidance=1, batch_size=16)
        scores = fidelity(self.pairs.condition, pictures, [self.pairs.truth(row) for row in rows], self.eye)
        if grid is not None:
            sources = [Image.fromarray(self.pairs.images[row]) for row in rows]
            sheet([maps, sources, pictures]).save(grid)
        return float(np.nanmean(scores))

    def gain(self, net: ControlNet) -> dict[int, float]:
        """By noise level, the loss without the control less the loss with it, on the same noise; without a prompt."""
        base, schedule = self.base, noise_schedule(self.base)
        generator = torch.Generator().manual_seed(0)
        rows = range(len(self.pairs))
        latents = base.encode_pictures([Image.fromarray(self.pairs.images[row]) for row in rows]).float()
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        text = base.encode_text([""]).states.expand(len(rows), -1, -1)
        gains = {}
        with _at_rest(net), torch.no_grad():
            features = net.encode(torch.stack([to_unit(self.pairs.standard(row)) for row in rows]))
            for level in LEVELS:
                timesteps = torch.full((len(rows),), level, device=latents.device)
                noisy = schedule.add_noise(latents, noise, timesteps).to(base.dtype)
                wanted = target(schedule, latents, noise, timesteps)
                encoded = base.backbone.encode(noisy, timesteps, text)
                without, controlled = (
                    F.mse_loss(base.backbone.decode(encoded, residuals).float(), wanted).item()
                    for residuals in (None, net(noisy, timesteps, text, features))
                )
                gains[level] = without - controlled
        return gains


@contextmanager
def _at_rest(net: ControlNet) -> Iterator[None]:
    """In evaluation mode, and back in the one it was in."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


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
