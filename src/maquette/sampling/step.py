"""One run of the network in a generation, which callbacks see and may change."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from maquette.backbones.residuals import Residuals
from maquette.noise.process import Sampler
from maquette.sampling.denoiser import Denoiser
from maquette.sampling.preview import preview


@dataclass
class _Computed:
    """What has been computed from a step's latents, or assigned."""

    residuals: Residuals | None = None
    has_residuals: bool = False
    prediction: Tensor | None = None  # (B, C, h, w)


class Step:
    """One step of a batch of B images: latents (B, C, h, w), from these the residuals, from both the prediction.

    Each is computed when it is first read. Assigning one drops what was computed from it, so that it is computed anew;
    the sampler then goes from `latents` to the next ones by `prediction`.

    A sampler of order 2, such as "heun", runs the network twice a step: two `Step`s with the same index.
    """

    index: int  # of the step, from 0
    steps: int  # number of steps
    time: Tensor  # scalar (): the backbone's timestep, larger for more noise
    images: range  # numbers of the batch's images in the call

    def __init__(self, denoise: Denoiser, sampler: Sampler, latents: Tensor, run: int, first: int = 0) -> None:
        """Latents (B, C, h, w) at run `run` of the network; the batch begins with image `first`."""
        self._denoise, self._sampler = denoise, sampler
        self.index, self.steps = run // sampler.order, sampler.steps
        self.time, self.images = sampler.times[run], range(first, first + len(latents))
        self.latents = latents

    @property
    def latents(self) -> Tensor:
        """The noisy latents (B, C, h, w), float32, as the sampler scales them."""
        return self._latents

    @latents.setter
    def latents(self, value: Tensor) -> None:
        self._latents, self._input = value, self._sampler.scale(value, self.time)
        self._now = _Computed()

    @property
    def residuals(self) -> Residuals | None:
        """What is added at each slot of the base, controls summed; None where no control is active.

        (B, C, h, w) a slot, or (2 B, C, h, w) with guidance: the unconditional branch first. In a step that reuses an
        earlier one's they are those, with this step's weights.
        """
        if not self._now.has_residuals:
            self._now.residuals = self._denoise.residuals(self._input, self.time, self.index, self.steps)
            self._now.has_residuals = True
        return self._now.residuals

    @residuals.setter
    def residuals(self, value: Residuals | None) -> None:
        self._now = _Computed(value, has_residuals=True)

    @property
    def prediction(self) -> Tensor:
        """The guided prediction (B, C, h, w), float32, of what `base.noise.prediction` says."""
        if self._now.prediction is None:
            branches = self._denoise.branches(self._input, self.time, self.residuals, self.index, self.steps)
            self._now.prediction = self._denoise.guided(branches, self)
        return self._now.prediction

    @prediction.setter
    def prediction(self, value: Tensor) -> None:
        self._now.prediction = value

    @property
    def denoised(self) -> Tensor:
        """The latents x₀ (B, C, h, w) that the prediction points to."""
        times = self.time.expand(len(self.latents))
        return self._denoise.base.noise.denoised(self._input, self.prediction, times)

    @property
    def drift(self) -> dict[str, float]:
        """What reuse between steps misses, by part ("encoder", "control 1"); empty without reuse.

        How far the features or residuals that the part computed last are from those it had computed before, which the
        steps between took: |new − old| / |new| over all slots. Read it after `prediction`.
        """
        return self._denoise.drift

    def preview(self, decoded: bool | None = None) -> list[Image.Image]:
        """What the images look like so far, from `denoised`.

        Args:
            decoded: None for the base's tiny decoder where it has one (full size), else as False; False for one pixel a
                latent cell; True for the autoencoder's decoder, which takes longest.
        """
        return preview(self._denoise.base, self.denoised, decoded)


Callback = Callable[[Step], None]
"""Called in each step, before the sampler moves on."""


class Previews:
    """A callback that only looks: it hands on what the images look like so far, and leaves the record whole.

    Args:
        show: takes previews as `Step.preview` gives them, one for each image of the batch.
        pause: least time between two of them, seconds.
    """

    def __init__(self, show: Callable[[list[Image.Image]], None], pause: float = 0.25) -> None:
        self._show, self._pause, self._last = show, pause, -math.inf

    def __call__(self, step: Step) -> None:
        """Show the batch's images so far, unless that was done a moment ago."""
        if time.monotonic() - self._last >= self._pause:
            self._show(step.preview())
            self._last = time.monotonic()
