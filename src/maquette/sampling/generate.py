"""The loop that samples."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from maquette.backbones.residuals import Residuals
from maquette.base import Base
from maquette.controlnet.compose import Control, total
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.foundation.images import as_rgb, fit
from maquette.foundation.pixels import to_unit
from maquette.foundation.seeds import generators, noise
from maquette.sampling.guidance import ConditionIn, ResolutionWeights, classifier_free, resolution_weights
from maquette.sampling.masked import Masked
from maquette.sampling.schedule import Scheduler, make_scheduler
from maquette.sampling.settings import (
    LARGEST,
    Sampling,
    check_controls,
    check_prompts,
    check_size,
    nearest_size,
    warn_of_unused,
)
from maquette.text.conditioning import Conditioning


def generate(
    base: Base,
    prompt: str | Sequence[str],
    controls: Sequence[Control] | Control = (),
    *,
    negative_prompt: str = "",
    steps: int = 20,
    guidance: float = 9.0,
    condition_in: ConditionIn = "both",
    resolution_weights: ResolutionWeights = "normalised",
    sampler: str = "ddim",
    seed: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
    image: Image.Image | None = None,
    mask: Image.Image | None = None,
    strength: float = 1.0,
    batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[Image.Image]:
    """Generate `count` pictures, or one for each of several prompts.

    Picture i starts from the noise of seed + i: the same alone, in any batch and on any device.

    Args:
        prompt: one for all pictures, or a sequence with one each (`count` is then its length).
        controls: ControlNets with their condition maps; their residuals add up.
        steps, guidance, condition_in, resolution_weights, sampler, strength: see `Sampling`.
        size: (width, height); without it the first condition map's or the start picture's, else the base's own.
        image: a start picture; `strength` says how much of it is noised away.
        mask: white where `image` may change; the rest stays (v3 §3.4, masked diffusion).
        batch_size: pictures computed at once; it changes memory and speed, not the pictures.
        progress: called with (steps done, steps in all).

    Raises `MaquetteError` for whatever of this does not fit.
    """
    sampling = Sampling(
        steps, guidance, condition_in, resolution_weights, sampler, strength, seed=seed, batch_size=batch_size
    )
    prompts = check_prompts(prompt, count)
    check_prompts(negative_prompt, 1)
    if mask is not None and image is None:
        raise MaquetteError("A mask says which part of a start picture may change; give image= too.")
    controls = [controls] if isinstance(controls, Control) else list(controls)
    check_controls(base, controls)
    warn_of_unused(sampling, controls, started=image is not None, negative=bool(negative_prompt))
    size = _size(base, size, controls, image)
    conditions = [_Condition.of(base, control, size, len(prompts)) for control in controls]
    masked = Masked.of(base, image, mask, size) if image is not None else None
    negative = base.encode_negative(negative_prompt, size)
    pictures: list[Image.Image] = []
    batches = range(0, len(prompts), batch_size)
    for number, start in enumerate(batches):
        batch = prompts[start : start + batch_size]
        text = base.encode_text(batch, size)
        sources = generators([seed + start + row for row in range(len(batch))])
        begun = masked.drawn(base, sources) if masked else None
        here = [one.rows(base, start, len(batch)) for one in conditions]
        tick = _ticker(progress, number, len(batches))
        with base.at_work(base.backbone.network, *(control.net for control in controls)):
            latents = _sample(base, text, negative, here, sampling, sources, size, begun, tick)
        pictures += base.decode_latents(latents)
    return pictures


@dataclass(frozen=True)
class _Condition:
    """A control with its condition maps encoded: E(c) once a generation."""

    control: Control
    maps: Tensor  # (1 or as many as pictures, 3, H, W)
    features: Tensor  # (1 or as many as there are maps here, C, h, w)

    @staticmethod
    def of(base: Base, control: Control, size: tuple[int, int], count: int) -> "_Condition":
        """One map for all pictures is encoded here; of one each, the batch that is at work."""
        maps = control.condition
        if isinstance(maps, Image.Image):
            maps = to_unit(fit(maps, size))[None]
        wanted = (3, size[1], size[0])
        if maps.ndim != 4 or maps.shape[0] not in (1, count) or tuple(maps.shape[1:]) != wanted:
            raise MaquetteError(
                f"A condition tensor is (1 or {count}, 3, height, width) in [0, 1] at the pictures' size, here "
                f"{wanted}, not {tuple(maps.shape)}."
            )
        shared = len(maps) == 1
        return _Condition(control, maps, _encode(base, control, maps) if shared else torch.empty(0))

    def rows(self, base: Base, start: int, count: int) -> "_Condition":
        """For some of the pictures."""
        if len(self.maps) == 1:
            return self
        return _Condition(self.control, self.maps, _encode(base, self.control, self.maps[start : start + count]))

    def residuals(self, latents: Tensor, timestep: Tensor, text: Conditioning) -> Residuals:
        """For a batch, or for its two branches one after the other."""
        features = self.features
        if len(features) not in (1, len(latents)):
            features = features.repeat(len(latents) // len(features), 1, 1, 1)
        return self.control.net(latents, timestep, text, features).scaled(self.control.weight)


@torch.no_grad()
def _encode(base: Base, control: Control, maps: Tensor) -> Tensor:
    with base.at_work(control.net):
        return control.net.encode(control.net.condition_input(maps, base.encode_maps))


@torch.no_grad()
def _sample(
    base: Base,
    text: Conditioning,
    negative: Conditioning,
    conditions: list[_Condition],
    sampling: Sampling,
    sources: list[torch.Generator],
    size: tuple[int, int],
    masked: Masked | None,
    tick: Callable[[int, int], None],
) -> Tensor:
    """Latents of one batch, from noise."""
    count = len(sources)
    scheduler = make_scheduler(sampling.sampler, base.schedule)
    scheduler.set_timesteps(sampling.steps, device=base.device)
    _check_timesteps(scheduler, base, sampling)
    one_sided = sampling.condition_in != "both" or any(one.control.net.contract.pooled for one in conditions)
    guided = _guided(text, negative, sampling, one_sided)
    both = Conditioning.cat([*[negative] * count, text]) if guided else text
    steps = max(1, int(sampling.steps * sampling.strength)) if masked else sampling.steps
    timesteps = scheduler.timesteps[(sampling.steps - steps) * scheduler.order :]
    drawn = _noise(base, sources, size)
    latents = masked.start(scheduler, drawn, timesteps) if masked else drawn * scheduler.init_noise_sigma
    for number, timestep in enumerate(timesteps):
        scaled = scheduler.scale_model_input(latents, timestep).to(base.dtype)  # the sampler itself works in float32
        pair = torch.cat([scaled, scaled]) if guided else scaled
        active = [one for one in conditions if one.control.active(number // scheduler.order, steps)]
        residuals = _residuals(base, active, pair, timestep, both, guided, sampling)
        prediction = base.predict(pair, timestep, both, residuals).float()
        if guided:
            prediction = classifier_free(prediction[:count], prediction[count:], sampling.guidance)
        latents = scheduler.step(prediction, timestep, latents, **_noise_of(scheduler, sources)).prev_sample
        if masked:
            latents = masked.restore(scheduler, latents, drawn, timesteps, number)
        tick(number + 1, len(timesteps))
    return latents


def _check_timesteps(scheduler: Scheduler, base: Base, sampling: Sampling) -> None:
    """Some spacings of the steps run past the end of a schedule."""
    trained = base.schedule.get("num_train_timesteps", 1000)
    if scheduler.timesteps.max() >= trained:
        raise MaquetteError(
            f"The sampler {sampling.sampler!r} on the schedule of {base.name!r} takes fewer than {trained} steps, "
            f"not {sampling.steps}."
        )


def _guided(text: Conditioning, negative: Conditioning, sampling: Sampling, one_sided: bool) -> bool:
    """Whether there are two branches: not without guidance, nor where both would be the same."""
    same = not one_sided and text.is_all(negative)
    return sampling.guidance != 1 and not same


def _residuals(
    base: Base,
    active: list[_Condition],
    latents: Tensor,
    timestep: Tensor,
    text: Conditioning,
    guided: bool,
    sampling: Sampling,
) -> Residuals | None:
    """The sum over the controls that are on in this step.

    With the condition in the conditional branch alone, only that half of the batch is run.
    """
    if not active:
        return None
    half = len(latents) // 2 if guided else 0
    parts = []
    for one in active:
        left_out = half if sampling.condition_in != "both" or one.control.net.contract.pooled else 0
        rows = slice(left_out, None)
        parts.append(one.residuals(latents[rows], timestep, text[rows]).behind(left_out))
    added = total(parts)
    if sampling.condition_in == "weighted":
        added = added.scaled(resolution_weights(base.backbone.slots, sampling.resolution_weights))
    return added


def _noise(base: Base, sources: list[torch.Generator], size: tuple[int, int]) -> Tensor:
    width, height = (side // base.backbone.downscale for side in size)
    return noise(sources, (base.backbone.latent_channels, height, width)).to(base.device)


def _size(
    base: Base, asked: tuple[int, int] | None, controls: list[Control], image: Image.Image | None
) -> tuple[int, int]:
    """What was asked for, else the first condition map's or the start picture's, rounded, else the base's own."""
    if asked is not None:
        check_size(base, asked)
        return asked
    given = next(_given_sizes(controls, image), None)
    if given is None:
        check_size(base, (base.size, base.size))
        return (base.size, base.size)
    size = nearest_size(base, given)
    if size != given:
        warnings.warn(
            f"The {'condition' if controls else 'start picture'} is {given[0]}×{given[1]} pixels and the base "
            f"{base.name!r} takes multiples of {base.size_step} up to {LARGEST}: the pictures are "
            f"{size[0]}×{size[1]}; give size= for another.",
            MaquetteWarning,
            stacklevel=3,
        )
    return size


def _given_sizes(controls: list[Control], image: Image.Image | None) -> Iterator[tuple[int, int]]:
    for condition in (*(control.condition for control in controls), *([image] if image else [])):
        if isinstance(condition, Image.Image):
            yield as_rgb(condition).size
        else:
            yield condition.shape[-1], condition.shape[-2]


def _noise_of(scheduler: Scheduler, sources: list[torch.Generator]) -> dict[str, list[torch.Generator]]:
    """Ancestral samplers draw noise in every step: from each picture's own source."""
    return {"generator": sources} if "generator" in inspect.signature(scheduler.step).parameters else {}


def _ticker(progress: Callable[[int, int], None] | None, batch: int, batches: int) -> Callable[[int, int], None]:
    def tick(done: int, steps: int) -> None:
        if progress is not None:
            progress(batch * steps + done, batches * steps)

    return tick
