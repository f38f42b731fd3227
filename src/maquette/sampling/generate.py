"""Generate images: check the arguments, then sample batch by batch."""

from collections.abc import Callable, Sequence

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.foundation.seeds import generators, noise
from maquette.sampling.config import ConditionIn, ResolutionWeights, Sampling, check_prompts
from maquette.sampling.denoiser import Denoiser, EncodedControl
from maquette.sampling.inpainting import Masked, Start
from maquette.sampling.recording import with_records
from maquette.sampling.size import choose_size
from maquette.sampling.validation import check_controls, check_start, warn_of_unused
from maquette.text.conditioning import Conditioning

Progress = Callable[[int, int], None]


def generate(
    base: Base,
    prompt: str | Sequence[str],
    controls: Sequence[Control] | Control = (),
    *,
    negative_prompt: str = "",
    steps: int | None = None,
    guidance: float | None = None,
    condition_in: ConditionIn = "both",
    resolution_weights: ResolutionWeights = "normalised",
    sampler: str | None = None,
    seed: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    strength: float = 1.0,
    batch_size: int = 8,
    progress: Progress | None = None,
) -> list[Image.Image]:
    """Generate `count` images, or one for each of several prompts.

    Image i starts from the noise of seed + i, in any batch and on any device.

    Args:
        prompt: one for all images, or a sequence with one per image (`count` is then ignored).
        controls: ControlNets with their condition maps; their residuals add up.
        steps, guidance, sampler: None for the base's defaults (`base.defaults`); `Sampling` documents all settings.
        size: (width, height) in pixels; by default the first condition map's or the start image's, else the base's.
        image: a start image; `strength` is the share of the noise added to it.
        mask: white where `image` may change; the rest is kept (v3 §3.4, masked diffusion).
        batch_size: images computed at once; affects memory and speed, not the images.
        progress: called with (steps done, total steps).

    Raises `MaquetteError` for arguments out of range, and for controls, sizes or images that do not suit the base.
    """
    sampling = Sampling.on(
        base, steps=steps, guidance=guidance, condition_in=condition_in, resolution_weights=resolution_weights,
        sampler=sampler, strength=strength, seed=seed, batch_size=batch_size,
    )  # fmt: skip
    prompts = check_prompts(prompt, negative_prompt, count)
    check_start(image, mask)
    controls = check_controls(base, controls)
    warn_of_unused(sampling, controls, started=image is not None, negative=bool(negative_prompt))
    size = choose_size(base, size, controls, image)
    conditions = [EncodedControl.of(base, control, size, len(prompts)) for control in controls]
    masked = Masked.of(base, image, mask, size) if image is not None else None
    negative = base.encode_negative(negative_prompt, size)
    images = _generate(base, prompts, negative, conditions, masked, sampling, size, progress)
    return with_records(images, base, prompts, negative_prompt, conditions, sampling, size, image, mask)


def _generate(
    base: Base,
    prompts: list[str],
    negative: Conditioning,
    conditions: list[EncodedControl],
    masked: Masked | None,
    sampling: Sampling,
    size: tuple[int, int],
    progress: Progress | None,
) -> list[Image.Image]:
    """All images, batch by batch."""
    images: list[Image.Image] = []
    batches = range(0, len(prompts), sampling.batch_size)
    for number, first in enumerate(batches):
        batch = prompts[first : first + sampling.batch_size]
        text = base.encode_text(batch, size)
        sources = generators([sampling.seed + first + row for row in range(len(batch))])
        x0 = masked.latents(base, sources) if masked else None  # uses each row's generator before its noise does
        batch_conditions = [condition.rows(base, first, len(batch)) for condition in conditions]
        with base.on_device(base.backbone.network, *(condition.control.net for condition in conditions)):
            denoise = Denoiser(base, text, negative, batch_conditions, sampling)
            start = Start(_noise(base, sources, size), x0, masked)
            latents = _sample(base, denoise, start, sources, size, _ticker(progress, number, len(batches)))
        images += base.decode_latents(latents)
    return images


@torch.no_grad()
def _sample(
    base: Base,
    denoise: Denoiser,
    start: Start,
    sources: list[torch.Generator],
    size: tuple[int, int],
    tick: Progress,
) -> Tensor:
    """Sample the latents (B, C, h, w) of one batch; one generator per row."""
    settings = denoise.sampling
    strength = 1.0 if start.x0 is None else settings.strength
    sampler = base.noise.sampler(settings.sampler, settings.steps, base.image_tokens(size), strength, base.device)
    x = start.latents(sampler)
    for run, time in enumerate(sampler.times):
        prediction = denoise(sampler.scale(x, time), time, run // sampler.order, sampler.steps)
        x = sampler.step(prediction, time, x, sources)
        x = start.restore(x, sampler, run)
        tick(run + 1, len(sampler.times))
    return x


def _noise(base: Base, sources: list[torch.Generator], size: tuple[int, int]) -> Tensor:
    """Initial noise of one batch, (B, C, h, w), float32, on the base's device."""
    width, height = (side // base.backbone.downscale for side in size)
    return noise(sources, (base.backbone.latent_channels, height, width)).to(base.device)


def _ticker(progress: Progress | None, batch: int, batches: int) -> Progress:
    """Report progress within a batch as progress over all batches."""

    def tick(done: int, steps: int) -> None:
        if progress is not None:
            progress(batch * steps + done, batches * steps)

    return tick
