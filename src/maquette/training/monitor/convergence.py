"""Two metrics on fixed held-out pairs, whose curves show sudden convergence.

Fidelity: generate images with the code that users sample with, detect the condition in them, and compare.
Gain: how much the condition lowers the loss at several noise levels; cheap, and not drowned in the noise of the loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.controlnet.network import ControlNet
from maquette.data.crop import CropView
from maquette.data.pairs import Pairs
from maquette.diorama.captions import DEFAULT_PROMPT
from maquette.foundation.images import image_grid
from maquette.foundation.pixels import to_unit
from maquette.metrics.fidelity import Scorer
from maquette.sampling.generate import generate
from maquette.training.hardware import at_once

LEVELS = (100, 300, 500, 700, 900)  # timesteps at which the gain is measured
STEPS = 12  # sampling steps: fewer than the usual 20, since this runs every hundred training steps
SHOWN = 4  # pairs on the image grid
PROMPTS = ("none", "true", "default", "conflicting")


@dataclass(frozen=True)
class Gain:
    """At one noise level: the loss without control, and how much control lowers it."""

    without: float
    gain: float


@dataclass(frozen=True)
class Monitor:
    """Measures the same pairs from the same noise each time.

    Fidelity is measured without a prompt, so that the layout can come only from the condition; guidance has no effect
    then.

    Args:
        rows: rows of `pairs`, all of one shape.
        scorer: measures fidelity; None where nothing can.
        unscored: why nothing can, in a sentence.
    """

    base: Base
    pairs: Pairs
    rows: Sequence[int]
    scorer: Scorer | None
    unscored: str = ""

    def measure(self, net: ControlNet) -> tuple[list[float], Image.Image]:
        """The fidelity of each held-out pair, and an image grid of some.

        NaN where a pair has nothing to score; none at all if the condition has no metric.
        """
        maps = [self.pairs.condition_map(row, CropView(), None) for row in self.rows]
        images = self._generate(net, maps, [""] * len(maps))
        grid = self._grid(net, maps, images)
        if self.scorer is None:
            return [], grid
        truth: list[Any] = [self.pairs.ground_truth(row) for row in self.rows]
        with torch.autocast(self.base.device.type, enabled=False):  # detectors that score compute as they were trained
            return self.scorer(images, truth), grid

    def gain(self, net: ControlNet) -> dict[int, Gain]:
        """By noise level, the loss without control and how much control lowers it, for the same noise; no prompt."""
        generator = torch.Generator().manual_seed(0)
        rows = list(self.rows)
        size = at_once(self.pairs.shape(rows[0]))
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        with _evaluating(net), torch.no_grad():
            found = [(len(chunk), self._losses(net, chunk, generator)) for chunk in chunks]
        means = {
            level: [sum(count * losses[level][which] for count, losses in found) / len(rows) for which in (0, 1)]
            for level in LEVELS
        }
        return {level: Gain(without, without - controlled) for level, (without, controlled) in means.items()}

    def _losses(self, net: ControlNet, rows: list[int], generator: torch.Generator) -> dict[int, tuple[float, float]]:
        """By noise level, the mean loss over some rows without and with control."""
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
            target = base.noise.target(latents, noise, timesteps)
            prepared = base.backbone.prepare(noisy, timesteps, text)
            residuals = net(noisy.to(net.dtype), timesteps, text, features)
            without, controlled = (
                F.mse_loss(base.backbone.finish(prepared, control).float(), target).item()
                for control in (None, residuals)
            )
            losses[level] = without, controlled
        return losses

    def _generate(self, net: ControlNet, maps: list[Image.Image], prompts: list[str]) -> list[Image.Image]:
        condition = torch.stack([to_unit(image) for image in maps])
        guidance = None if any(prompts) else 1  # None: the base's default
        batch_size = at_once((condition.shape[3], condition.shape[2]))
        with _evaluating(net), torch.no_grad():
            return generate(
                self.base,
                prompts,
                [Control(net, condition)],
                steps=STEPS,
                guidance=guidance,
                batch_size=batch_size,
                record=False,
            )

    def _grid(self, net: ControlNet, maps: list[Image.Image], plain: list[Image.Image]) -> Image.Image:
        """An image grid of conditions, sources, and images generated with the four kinds of prompt."""
        texts = [self.pairs.text(row) for row in self.rows[:SHOWN]]
        prompts = {"true": texts, "default": [DEFAULT_PROMPT] * len(texts), "conflicting": [*texts[1:], texts[0]]}
        generated = {kind: self._generate(net, maps[:SHOWN], texts) for kind, texts in prompts.items()}
        sources = [self.pairs.image(row, CropView()) for row in self.rows[:SHOWN]]
        rows = [maps[:SHOWN], sources, plain[:SHOWN], *(generated[kind] for kind in PROMPTS[1:])]
        return image_grid(rows, labels=("condition", "source", *PROMPTS))


@contextmanager
def _evaluating(net: ControlNet) -> Iterator[None]:
    """Switch to evaluation mode, and back to the previous mode on exit."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
