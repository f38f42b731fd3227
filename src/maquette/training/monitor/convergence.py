"""When does the condition take hold? Two instruments, on fixed held-out pairs.

Fidelity: generate with the code that users sample with, detect the condition again, score it.
Gain: what the condition takes off the loss at several noise levels; cheap, and there is no loss of its own to hide in.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from maquette.base import Base
from maquette.conditions.networks.perception import PerceptionModel
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.foundation.image_grid import image_grid
from maquette.foundation.pixels import to_unit
from maquette.metrics.fidelity import fidelity
from maquette.sampling.generate import generate
from maquette.training.hardware import at_once

LEVELS = (100, 300, 500, 700, 900)  # timesteps at which the gain is taken
STEPS = 12  # of sampling: fewer than the usual 20, for a number every hundred steps
SHOWN = 4  # pairs on the grid under every kind of prompt
PROMPTS = ("none", "true", "default", "conflicting")


@dataclass(frozen=True)
class Gain:
    """At one noise level: the loss without the control, and what the control takes off it."""

    without: float
    gain: float


@dataclass(frozen=True)
class Monitor:
    """Measures the same pairs from the same noise each time.

    Fidelity is taken without a prompt, so that nothing but the condition can put things in their places; guidance has
    no effect then.

    Args:
        rows: of `pairs`, all of one shape.
        eye: the network that looks, for conditions that it scores.
        scored: whether fidelity can be measured: the condition's metric is known.
    """

    base: Base
    pairs: Pairs
    rows: Sequence[int]
    eye: PerceptionModel | None
    scored: bool

    def measure(self, net: ControlNet) -> tuple[float, Image.Image]:
        """Mean fidelity over the held-out conditions, NaN where nothing scores it; and a sheet of some of them."""
        maps = [self.pairs.condition_map(row, CropView(), None) for row in self.rows]
        shown = self._generate(net, maps, [""] * len(maps))
        drawn = self._sheet(net, maps, shown)
        if not self.scored:
            return math.nan, drawn
        truth: list[Any] = [self.pairs.ground_truth(row) for row in self.rows]
        return float(np.nanmean(fidelity(self.pairs.condition, shown, truth, self.eye))), drawn

    def gain(self, net: ControlNet) -> dict[int, Gain]:
        """By noise level, the loss without the control and what it takes off, on the same noise; without a prompt."""
        generator = torch.Generator().manual_seed(0)
        rows = list(self.rows)
        size = at_once(self.pairs.shape(rows[0]))
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        with _at_rest(net), torch.no_grad():
            found = [(len(part), self._losses(net, part, generator)) for part in parts]
        means = {
            level: [sum(count * losses[level][which] for count, losses in found) / len(rows) for which in (0, 1)]
            for level in LEVELS
        }
        return {level: Gain(without, without - controlled) for level, (without, controlled) in means.items()}

    def _losses(self, net: ControlNet, rows: list[int], generator: torch.Generator) -> dict[int, tuple[float, float]]:
        """Of some rows, by noise level: without the control, and with it."""
        base, size = self.base, self.pairs.shape(rows[0])
        latents = base.encode_images([self.pairs.image(row, CropView()) for row in rows]).float()
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        text = base.encode_text([""] * len(rows), size)
        maps = torch.stack([to_unit(self.pairs.condition_map(row, CropView(), None)) for row in rows])
        features = net.encode(net.condition_input(maps, base.encode_maps))
        losses = {}
        for level in LEVELS:
            timesteps = torch.full((len(rows),), level, device=latents.device)
            noisy = base.noise.noised(latents, noise, timesteps).to(base.dtype)
            wanted = base.noise.target(latents, noise, timesteps)
            prepared = base.backbone.prepare(noisy, timesteps, text)
            residuals = net(noisy.to(net.dtype), timesteps, text, features)
            without, controlled = (
                F.mse_loss(base.backbone.finish(prepared, added).float(), wanted).item() for added in (None, residuals)
            )
            losses[level] = without, controlled
        return losses

    def _generate(self, net: ControlNet, maps: list[Image.Image], prompts: list[str]) -> list[Image.Image]:
        condition = torch.stack([to_unit(one) for one in maps])
        guidance = None if any(prompts) else 1  # the base's own, where it has an effect
        together = at_once((condition.shape[3], condition.shape[2]))
        with _at_rest(net), torch.no_grad():
            return generate(
                self.base, prompts, [Control(net, condition)], steps=STEPS, guidance=guidance, batch_size=together
            )

    def _sheet(self, net: ControlNet, maps: list[Image.Image], plain: list[Image.Image]) -> Image.Image:
        """Condition, source, and what is generated under the four kinds of prompt."""
        texts = [self.pairs.text(row) for row in self.rows[:SHOWN]]
        prompts = {"true": texts, "default": [DEFAULT_PROMPT] * len(texts), "conflicting": [*texts[1:], texts[0]]}
        of_kind = {kind: self._generate(net, maps[:SHOWN], words) for kind, words in prompts.items()}
        sources = [self.pairs.image(row, CropView()) for row in self.rows[:SHOWN]]
        rows = [maps[:SHOWN], sources, plain[:SHOWN], *(of_kind[kind] for kind in PROMPTS[1:])]
        return image_grid(rows, labels=("condition", "source", *PROMPTS))


@contextmanager
def _at_rest(net: ControlNet) -> Iterator[None]:
    """In evaluation mode, and back in the one it was in."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)


def convergence_step(steps: list[int], scores: list[float], least: float = 0.05) -> int | None:
    """The step of sudden convergence: from there on, the score stays above half of its rise from first to best.

    None while the rise is under `least` or fewer than three measurements exist.
    """
    if len(scores) < 3 or math.isnan(scores[0]) or max(scores) - scores[0] < least:
        return None
    middle = (scores[0] + max(scores)) / 2
    below = [number for number, score in enumerate(scores) if score < middle]
    after = below[-1] + 1
    return steps[after] if after < len(steps) else None
