"""A second base in the shape of Stable Diffusion 3: two text encoders and an MMDiT, by flow matching.

    python -m maquette.recipes.diorama.mmdit --run runs/diorama --device cuda --compile 1

On the latents and with the tokenizer of the run's first base. Muon, 10 % of the prompts dropped, and dense tasks beside
the velocity. Writes a sheet of pictures, and a folder that diffusers loads, as it does Stable Diffusion 3 without T5:

    folder = "runs/diorama/mmdit"
    StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None).to(torch.float32)

To write both again without training: --learn 0. The context is as the pipeline makes it: in the place of T5's states it
appends zero tokens, 256 unless asked for fewer; best and fastest with max_sequence_length=0.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    StableDiffusion3Pipeline,
)
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTokenizer

from maquette.base import Defaults, sample_posterior
from maquette.checkpoints.save import write_defaults
from maquette.checkpoints.tiny_decoder import FOLDER as TINY_DECODER
from maquette.diorama import dataset
from maquette.foundation.images import image_grid
from maquette.noise.flow import FlowMatching
from maquette.recipes.command import run
from maquette.recipes.diorama import autoencoder, base, dense, scenes, stage
from maquette.recipes.diorama.mmdit_model import BLANK, Head, Recipe, TextAndMMDiT, read
from maquette.text.clip import WORDS
from maquette.training import checkpoint
from maquette.training.muon import Muon
from maquette.training.stages import cosine
from maquette.training.state import averaged

FLOW = FlowMatching({})
DEFAULTS = Defaults(steps=20, guidance=4.0, sampler="euler")
WATCHED = (0.1, 0.3, 0.5, 0.7, 0.85, 0.95)  # σ of the validation error


def train(recipe: Recipe) -> TextAndMMDiT:
    """Train, or go on; returns the averaged networks."""
    moments = autoencoder.posteriors(recipe.run, recipe.scenes, recipe.device)
    truth = dense.truth(recipe.run, recipe.scenes, recipe.device)
    tokenizer = CLIPTokenizer.from_pretrained(recipe.run / "tokenizer")
    texts = base.Recipe(run=recipe.run, wordings=recipe.wordings)
    tokens = base.worded(texts, tokenizer, scenes.captions(recipe.scenes)).to(recipe.device)
    empty = base.tokenize(tokenizer, [""]).to(recipe.device)
    torch.manual_seed(recipe.seed)
    model = TextAndMMDiT(recipe, tokenizer, moments.shape[1] // 2).to(recipe.device)
    average = averaged(model, recipe.ema)
    head, features = Head(model.transformer, truth.channels()).to(recipe.device), read(model.transformer)
    optimizer = _optimiser(model, head, recipe)
    parts: checkpoint.Parts = {"model": model, "head": head, "average": average, "optimizer": optimizer}
    if recipe.compile:
        for block in model.transformer.transformer_blocks:
            block.compile()
    losses: list[Tensor] = []
    rate, report = partial(_rate, recipe), _reporter(recipe, average, tokenizer, losses)
    for step, generator in stage.steps("mmdit", recipe, recipe.stop or recipe.steps, rate, parts, report):
        chance: dict[str, Any] = {"generator": generator, "device": recipe.device}
        rows = torch.randint(len(tokens), (recipe.batch_size,), **chance)
        posteriors = moments[rows]
        latents = sample_posterior(posteriors, torch.randn(posteriors[:, ::2].shape, **chance))
        which = torch.randint(tokens.shape[1], (recipe.batch_size,), **chance)
        drop = torch.rand((recipe.batch_size, 1), **chance) < recipe.prompt_drop
        words = torch.where(drop, empty, tokens[rows, which].long())
        times, noise = draw_times(recipe.batch_size, generator), torch.randn(latents.shape, **chance)
        with torch.autocast(recipe.device, torch.bfloat16):
            blank = 0 if (step + 1) % recipe.blank_every else BLANK
            velocity = model(FLOW.noised(latents, noise, times), times, words, blank)
            seen = head.loss(features, truth[rows])
        loss = F.mse_loss(velocity.float(), FLOW.target(latents, noise, times))
        stage.descend(optimizer, loss + recipe.dense * seen)
        losses.append(loss.detach())
        if (step + 1) % base.AVERAGE_EVERY == 0:
            average.update_parameters(model)
    return cast(TextAndMMDiT, average.module)


def _optimiser(model: TextAndMMDiT, head: Head, recipe: Recipe) -> Muon:
    """Muon for what is a matrix inside the blocks, AdamW for all else."""
    named = list(model.named_parameters())
    inside = {name for name, one in named if one.ndim >= 2 and name.startswith("transformer.transformer_blocks")}
    matrices, others = ([one for name, one in named if (name in inside) == within] for within in (True, False))
    return Muon(matrices, [*others, *head.parameters()], recipe.learning_rate, other_rate=recipe.other_rate)


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=recipe.warmup, hold=recipe.hold)


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """1000 σ (B,), σ in (0, 1): 70 % logit-normal around the middle (Esser et al. 2024, §3.1), the others uniform."""
    middle = torch.sigmoid(torch.randn(count, generator=generator, device=generator.device))
    uniform, choice = torch.rand((2, count), generator=generator, device=generator.device)
    return torch.where(choice < 0.7, middle, uniform) * 1000


def _reporter(recipe: Recipe, average: nn.Module, tokenizer: CLIPTokenizer, losses: list[Tensor]) -> Callable[[], str]:
    """What says the mean of losses, scalars, and the averaged networks' error on held-out scenes."""
    moments = autoencoder.posteriors(recipe.run, recipe.held_out, recipe.device, dataset.VALIDATION)
    tokens = base.tokenize(tokenizer, scenes.captions(recipe.held_out, dataset.VALIDATION)).to(recipe.device)

    def report() -> str:
        errors = validation(average, moments, tokens)
        values = " ".join(f"{value:.4f}" for value in errors)
        return f"{stage.taken(losses)}, validation {values}, mean {sum(errors) / len(errors):.4f}"

    return report


@torch.no_grad()
def validation(model: nn.Module, moments: Tensor, tokens: Tensor) -> list[float]:
    """Mean squared error of the velocity at each of the `WATCHED` σ.

    Args:
        moments, tokens: of N scenes, (N, 2C, h, w) and (N, CONTEXT).
    """
    latents = moments.float().chunk(2, dim=1)[0]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(latents.device)
    errors = []
    for sigma in WATCHED:
        parts = []
        for x0, eps, words in zip(*(rows.split(64) for rows in (latents, noise, tokens)), strict=True):
            times = torch.full((len(x0),), 1000 * sigma, device=x0.device)
            with torch.autocast(x0.device.type, torch.bfloat16):
                velocity = model(FLOW.noised(x0, eps, times), times, words)
            parts.append((velocity.float() - FLOW.target(x0, eps, times)).square().mean(dim=(1, 2, 3)))
        errors.append(torch.cat(parts).mean().item())
    return errors


def pipeline(recipe: Recipe) -> StableDiffusion3Pipeline:
    """The averaged networks of the run's last state, float32 on the CPU, as diffusers' pipeline."""
    vae = AutoencoderKL.from_pretrained(recipe.run / "vae")
    tokenizer = CLIPTokenizer.from_pretrained(recipe.run / "tokenizer")
    average = AveragedModel(TextAndMMDiT(recipe, tokenizer, vae.config.latent_channels))
    average.load_state_dict(checkpoint.read(recipe.run / "mmdit.pt")["average"])
    return assembled(cast(TextAndMMDiT, average.module), vae, tokenizer, recipe.shift)


def assembled(
    model: TextAndMMDiT, vae: AutoencoderKL, tokenizer: CLIPTokenizer, shift: float
) -> StableDiffusion3Pipeline:
    """Diffusers' pipeline of the networks, without a third text encoder."""
    vae.register_to_config(shift_factor=0.0)  # the pipeline adds it
    return StableDiffusion3Pipeline(
        transformer=model.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=shift),
        vae=vae,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=model.text_encoder_2,
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )


def save(recipe: Recipe) -> Path:
    """Write the averaged networks in half precision to RUN/mmdit, in diffusers' layout; returns the folder.

    Beside them what we read there: settings of sampling, the words that were learnt, and the latents' tiny decoder.
    """
    folder = recipe.run / "mmdit"
    pipeline(recipe).to(dtype=torch.float16).save_pretrained(folder)
    shutil.copy(recipe.run / "tokenizer" / WORDS, folder / "tokenizer" / WORDS)
    if (recipe.run / TINY_DECODER).exists():
        shutil.copytree(recipe.run / TINY_DECODER, folder / TINY_DECODER, dirs_exist_ok=True)
    write_defaults(DEFAULTS, folder)
    return folder


def sheet(recipe: Recipe, steps: int = 28, guidance: float = 4.0) -> Path:
    """Draw captions of the validation range, by Euler's method, each from its own seed, to RUN/mmdit.png."""
    captions = scenes.captions(recipe.pictures, dataset.VALIDATION)
    drawing = pipeline(recipe).to(recipe.device)
    drawing.set_progress_bar_config(desc="pictures", mininterval=5)
    images = drawing(
        captions,
        num_inference_steps=steps,
        guidance_scale=guidance,
        max_sequence_length=0,
        generator=[torch.Generator().manual_seed(number) for number in range(len(captions))],
    ).images
    rows = [slice(first, first + 4) for first in range(0, len(images), 4)]
    path = recipe.run / "mmdit.png"
    image_grid([images[row] for row in rows], captions=[captions[row] for row in rows]).save(path)
    return path


def make(recipe: Recipe) -> None:
    """Train, save the folder and draw the sheet."""
    if recipe.learn:
        train(recipe)
    save(recipe)
    if recipe.pictures:
        sheet(recipe)


if __name__ == "__main__":
    run(make, Recipe, __doc__)
