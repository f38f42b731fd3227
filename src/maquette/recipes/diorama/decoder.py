"""Stage 2 of the embedded base: the autoencoder's decoder alone, on latents that stay as they are.

    python -m maquette.recipes.diorama.decoder --run runs/diorama

The encoder is locked, so that a base and ControlNets trained on its latents stand whatever the decoder learns, and
this may run before, after or again. Two CPU cores: 40 minutes. One GPU: --device cuda --batch-size 128
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from maquette.diorama import dataset
from maquette.metrics.maps import psnr
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes, stage
from maquette.recipes.diorama.autoencoder import classes_weight, posteriors, quality, reconstruction_loss
from maquette.training.checkpoint import Parts
from maquette.training.stages import cosine


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 32_000
    held_out: int = 200  # scenes on which PSNR is watched
    steps: int = 6_000
    batch_size: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "cpu"


def train(recipe: Recipe) -> AutoencoderKL:
    moments = posteriors(recipe.run, recipe.scenes, recipe.device)
    images, classes = scenes.load(recipe.scenes, recipe.device, "images", "classes")
    (held_out,) = scenes.load(recipe.held_out, recipe.device, "images", first=dataset.VALIDATION)
    vae = AutoencoderKL.from_pretrained(recipe.run / "vae").to(recipe.device, memory_format=torch.channels_last)
    learnt = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(learnt, lr=1.0, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    parts: Parts = {"vae": vae, "optimizer": optimizer}
    rate, report = partial(_rate, recipe), partial(quality, vae, held_out)
    for _, generator in stage.steps("decoder", recipe, recipe.steps, rate, parts, report, every=200):
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator, device=recipe.device)
        target, latents = scenes.to_pixels(images[rows]), moments[rows].float().chunk(2, dim=1)[0]
        with torch.autocast(recipe.device, torch.bfloat16):
            result = vae.decode(latents).sample
        loss = decoding_loss(result.float(), target, classes_weight(classes[rows]))
        stage.descend(optimizer, loss, clip=1.0)
    vae.save_pretrained(recipe.run / "vae")
    return vae


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=100, hold=0.2)


def decoding_loss(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Reconstruction loss minus PSNR (in tens of dB), (), of images (B, 3, H, W) in [-1, 1], weights (B, 1, H, W)."""
    return reconstruction_loss(result, target, weight) - psnr(result, target).mean() / 10


if __name__ == "__main__":
    run(train, Recipe, __doc__)
