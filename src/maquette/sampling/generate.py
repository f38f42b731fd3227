"""Generate images: check the arguments, then sample batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict, TypeVar, Unpack, overload

import torch
from PIL import Image
from torch import Tensor

from maquette.base import Base
from maquette.controlnet.control import Control
from maquette.controlnet.maps import Picture
from maquette.foundation.memory import ran_out
from maquette.foundation.seeds import generators, noise
from maquette.noise.process import SamplerFactory
from maquette.sampling.config import ConditionIn, Guidance, ResolutionWeights, Returns, Sampling, check_prompts
from maquette.sampling.denoiser import Denoiser, EncodedControl
from maquette.sampling.inpainting import Masked, Start
from maquette.sampling.memory.advice import check_memory, too_little
from maquette.sampling.memory.need import Request
from maquette.sampling.recording import with_records
from maquette.sampling.size import choose_size
from maquette.sampling.speed import Decoder, Shares, Speed
from maquette.sampling.step import Callback, Previews, Step
from maquette.sampling.validation import (
    check_controls,
    read_start,
    warn_of_classes,
    warn_of_maps,
    warn_of_precision,
    warn_of_unused,
)
from maquette.text.conditioning import Conditioning

T = TypeVar("T")
Progress = Callable[[int, int], None]
Prompts = str | Sequence[str]
Controls = Sequence[Control] | Control


class Settings(TypedDict, total=False):
    """The settings of `generate` for type checkers, since `returns` decides what it returns."""

    negative_prompt: str
    steps: int | None
    guidance: float | Guidance | None
    distilled_guidance: float | None
    condition_in: ConditionIn
    resolution_weights: ResolutionWeights
    sampler: str | SamplerFactory | None
    seed: int
    count: int
    size: tuple[int, int] | None
    image: Picture | None
    mask: Picture | None
    feather: int | None
    strength: float
    batch_size: int
    speed: Speed
    guidance_interval: Shares | None
    reuse: int | None
    decoder: Decoder | None
    callback: Callback | None
    record: bool
    progress: Progress | None


@overload
def generate(
    base: Base,
    prompt: Prompts,
    controls: Controls = (),
    *,
    returns: Literal["images"] = "images",
    **settings: Unpack[Settings],
) -> list[Image.Image]: ...


@overload
def generate(
    base: Base, prompt: Prompts, controls: Controls = (), *, returns: Literal["latents"], **settings: Unpack[Settings]
) -> Tensor:
    """Latents (count, C, h, w)."""


def generate(
    base: Base,
    prompt: Prompts,
    controls: Controls = (),
    *,
    negative_prompt: str = "",
    steps: int | None = None,
    guidance: float | Guidance | None = None,
    distilled_guidance: float | None = None,
    condition_in: ConditionIn = "both",
    resolution_weights: ResolutionWeights = "normalised",
    sampler: str | SamplerFactory | None = None,
    seed: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
    image: Picture | None = None,
    mask: Picture | None = None,
    feather: int | None = None,
    strength: float = 1.0,
    batch_size: int = 8,
    speed: Speed = "exact",
    guidance_interval: Shares | None = None,
    reuse: int | None = None,
    decoder: Decoder | None = None,
    callback: Callback | None = None,
    returns: Returns = "images",
    record: bool = True,
    progress: Progress | None = None,
) -> list[Image.Image] | Tensor:
    """Generate `count` images, or one for each of several prompts.

    Image i starts from the noise of seed + i, in any batch and on any device. Run again in the same way it is the same
    bit for bit. Alone, in another batch or on another device it is the same up to rounding, 1 of 255 in a few pixels:
    matrix products add up in another order if there are more rows. With batch_size=1 it is the same bit for bit alone
    and in any call, at about a third more time on a CPU.

    Args:
        base: from `load_base`.
        prompt: one for all images, or a sequence with one per image (`count` is then ignored).
        controls: ControlNets with their condition maps; their residuals add up. `Control` documents their settings.
        negative_prompt: what not to show, one for all images.
        steps: 1 to 1000; None for the base's default (`base.defaults`), such as 20.
        guidance: scale β of classifier-free guidance, 0 to 50: 1 turns it off, more follows the prompt more closely, 0
            ignores the prompt; None for the base's default, such as 9. Or a function (unconditional, conditional, step)
            of two predictions (B, C, h, w) that returns one, with `step` as for `callback`.
        distilled_guidance: the scale, 0 to 50, that a base distilled from guidance takes as an input (FLUX.1-dev) in
            one run of the network; None for 3.5, as in training. Such bases have a `guidance` of 1 by default; above
            it, they are guided away from `negative_prompt` as well, in twice the time.
        condition_in: which branch of guidance the controls enter: "both"; "conditional", where guidance amplifies them;
            or "weighted", the conditional one with a factor at each slot by its resolution (v3 §3.4).
        resolution_weights: these factors, 64 / h_i at resolution h_i: "normalised" to at most 1, or "literal", 1 to 8.
        sampler: "ddim", "ddpm", "euler", "euler-ancestral", "heun", "dpm++", "dpm++-karras" or "unipc"; for a flow
            "euler" or "heun"; None for the base's default. Or a function (steps, tokens, strength, device) that returns
            a `maquette.noise.process.Sampler`, called once per batch.
        seed: 0 to 2**63 - 1; image i uses seed + i.
        count: number of images, 1 or more.
        size: (width, height) in pixels, multiples of `base.size_multiple` up to 4096; by default the first condition
            map's or the start image's, else the base's.
        image: a start image: a PIL image, a path or an array (H, W, 3).
        mask: of the same kinds; white where `image` may change, grey for a share of it. Where it is black or
            transparent, the result is `image` (as framed to the size), pixel for pixel (v3 §3.4, masked diffusion).
        feather: width in pixels, 0 to 128, of the mask's soft edge, which lies inside the mask; 0 for a hard one; None
            for one latent cell, 8 pixels in Stable Diffusion.
        strength: share of the noise that is added to `image`, and of the steps that are taken: above 0, up to 1.
        batch_size: images computed at once, 1 or more; affects memory and speed, and the images by rounding alone.
        speed: "exact"; or approximate, "balanced" or "draft", which decide the steps, the sampler and the next three
            where they are not given (docs/speed.md has what each takes, and its price).
        guidance_interval: (start, end), shares of the steps between which guidance acts; in the others the prompt's
            branch runs alone, half the work (Kynkäänniemi et al. 2024). None for the speed's: (0, 1) for "exact".
        reuse: the U-Net's encoder and the ControlNets run once in so many steps, 1 to 10, and the steps between take
            what they computed (Li et al. 2023); `step.drift` measures what that misses. None for the speed's.
        decoder: of the images: "full", the autoencoder's, or "tiny", the base's tiny decoder. None for the speed's:
            "draft" takes one that the base was given (`mq.load_tiny_decoder`).
        callback: called in each step with a `maquette.sampling.step.Step`, before the sampler moves on. It sees, and
            may assign, `latents`, `residuals` and `prediction`; `step.preview()` shows the images so far. A record says
            that a callback took part, and cannot hold it; `sampling.step.Previews` only looks.
        returns: "images", or "latents": (count, C, h, w) in float32, scaled for the backbone, without the composition
            in pixels that follows a masked edit. `base.decode_latents` makes images of them.
        record: whether images carry the record of how they were made (`mq.save` writes it). Every network's weights are
            then hashed once, at about a second per GB; leave it out while weights change, as in training.
        progress: called with (runs of the network done, total).

    Raises `MaquetteError` for arguments out of range, for controls, sizes or images that do not suit the base, and
    where memory is too little: it says what would fit.
    """
    sampling = Sampling.on(
        base, speed, steps=steps, guidance=guidance, distilled_guidance=distilled_guidance, condition_in=condition_in,
        resolution_weights=resolution_weights,
        sampler=sampler, strength=strength, seed=seed, batch_size=batch_size, feather=feather, returns=returns,
        guidance_interval=guidance_interval, reuse=reuse, decoder=decoder,
    )  # fmt: skip
    prompts = check_prompts(prompt, negative_prompt, count)
    picture, white = read_start(image, mask)
    controls = check_controls(base, controls)
    warn_of_unused(
        sampling, controls, image is not None, mask is not None, bool(negative_prompt), base.backbone.text.guided
    )
    size = choose_size(base, size, controls, picture)
    job = _Job.prepared(base, prompts, negative_prompt, controls, (picture, white), size, sampling)
    if returns == "latents":
        return job.in_memory(lambda: torch.cat(list(job.batches(callback, progress))))
    images = job.in_memory(lambda: job.images(job.batches(callback, progress)))
    return job.recorded(images, altered=not isinstance(callback, Previews | None)) if record else images


@dataclass(frozen=True)
class _Job:
    """A checked call of `generate`, encoded for the base."""

    base: Base
    prompts: list[str]
    negative_prompt: str
    negative: Conditioning
    conditions: list[EncodedControl]
    start: tuple[Image.Image | None, Image.Image | None]  # the start image, and white where it may change
    masked: Masked | None
    size: tuple[int, int]
    sampling: Sampling

    @staticmethod
    def prepared(
        base: Base,
        prompts: list[str],
        negative_prompt: str,
        controls: list[Control],
        start: tuple[Image.Image | None, Image.Image | None],
        size: tuple[int, int],
        sampling: Sampling,
    ) -> "_Job":
        """Encode what all batches share, and warn of what does not suit the base or the size."""
        warn_of_precision(base)
        conditions = [EncodedControl.of(base, control, size, len(prompts)) for control in controls]
        warn_of_maps(controls, size)
        warn_of_classes(controls, size)
        picture, white = start
        masked = Masked.of(base, picture, white, size, sampling.feather) if picture is not None else None
        negative = base.encode_negative(negative_prompt, size)
        return _Job(base, prompts, negative_prompt, negative, conditions, start, masked, size, sampling)

    def in_memory(self, compute: Callable[[], T]) -> T:
        """What `compute` returns.

        Raises `MaquetteError` with what would fit where memory is too little for it.
        """
        request = Request(
            self.base, [one for one in self.conditions if len(one.features)], self.negative, self.size,
            batch=min(self.sampling.batch_size, len(self.prompts)),
            branches=1 if self.sampling.guidance == 1 else 2, tiny=self.sampling.decoder == "tiny",
            low_memory=self.base.low_memory, is_decoded=self.sampling.returns == "images",
        )  # fmt: skip
        check_memory(request)
        try:
            return compute()
        except Exception as error:
            if not ran_out(error):
                raise
        raise too_little(request)  # after the error's traceback, which keeps all tensors alive, is gone

    def batches(self, callback: Callback | None, progress: Progress | None) -> Iterator[Tensor]:
        """The latents (B, C, h, w) of all images, batch by batch."""
        firsts = range(0, len(self.prompts), self.sampling.batch_size)
        for number, first in enumerate(firsts):
            yield self._batch(first, callback, _ticker(progress, number, len(firsts)))

    def _batch(self, first: int, callback: Callback | None, tick: Progress) -> Tensor:
        """The latents (B, C, h, w) of the batch that begins with image `first`."""
        base, masked = self.base, self.masked
        prompts = self.prompts[first : first + self.sampling.batch_size]
        text = base.encode_text(prompts, self.size)
        sources = generators([self.sampling.seed + first + row for row in range(len(prompts))])
        x0 = masked.latents(base, sources) if masked else None  # uses each row's generator before its noise does
        conditions = [condition.rows(base, first, len(prompts)) for condition in self.conditions]
        with base.on_device(base.backbone.network, *(condition.control.net for condition in conditions)):
            denoise = Denoiser(base, text, self.negative, conditions, self.sampling)
            start = Start(first, sources, _noise(base, sources, self.size), x0, masked)
            return _sample(base, denoise, start, self.size, callback, tick)

    def images(self, batches: Iterator[Tensor]) -> list[Image.Image]:
        """The images of latents (B, C, h, w), with the start image where it may not change."""
        tiny = self.sampling.decoder == "tiny"
        images = [image for latents in batches for image in self.base.decode_latents(latents, tiny)]
        return self.masked.compose(images) if self.masked is not None else images

    def recorded(self, images: list[Image.Image], altered: bool) -> list[Image.Image]:
        """The images with their records; a callback may have altered them."""
        return with_records(
            images, self.base, self.prompts, self.negative_prompt, self.conditions, self.sampling, self.size,
            self.start, altered,
        )  # fmt: skip


@torch.no_grad()
def _sample(
    base: Base, denoise: Denoiser, start: Start, size: tuple[int, int], callback: Callback | None, tick: Progress
) -> Tensor:
    """Sample the latents (B, C, h, w) of one batch."""
    sampler = denoise.sampling.make_sampler(base, base.image_tokens(size), started=start.x0 is not None)
    x = start.latents(sampler)
    for run in range(len(sampler.times)):
        step = Step(denoise, sampler, x, run, start.first)
        if callback is not None:
            callback(step)
        x = sampler.step(step.prediction, step.time, step.latents, start.sources)
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
