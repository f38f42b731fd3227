"""Stage 2 of the embedded base: the autoencoder's decoder alone, on latents that stay as they are.

    python -m maquette.recipes.diorama.decoder --run runs/diorama

The encoder is locked, so that a base and ControlNets trained on its latents stand whatever the decoder learns, and
this may run before, after or again. Two CPU cores: 40 minutes. One GPU: --device cuda --batch-size 128
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from maquette.diorama import dataset
from maquette.metrics.pixels import psnr
from maquette.recipes.command import from_command_line
from maquette.recipes.diorama import scenes
from maquette.recipes.diorama.autoencoder import classes_weight, posteriors, quality, reconstruction_loss
from maquette.training import checkpoint
from maquette.training.schedule import cosine


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
    optimiser = torch.optim.AdamW(learnt, lr=1.0, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    state, parts = recipe.run / "decoder.pt", {"vae": vae, "optimiser": optimiser}
    start = checkpoint.restore(state, parts)
    bar = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, desc="decoder", mininterval=10)
    for step in bar:
        generator = scenes.generator(recipe.seed, step, recipe.device)
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator, device=recipe.device)
        target, latents = scenes.to_pixels(images[rows]), moments[rows].float().chunk(2, dim=1)[0]
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=100, hold=0.2)
        with torch.autocast(recipe.device, torch.bfloat16):
            result = vae.decode(latents).sample
        loss = decoding_loss(result.float(), target, classes_weight(classes[rows]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learnt, 1.0)
        optimiser.step()
        if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
            checkpoint.save(state, step + 1, parts)
            bar.write(f"step {step + 1}: PSNR {quality(vae, held_out):.2f} dB")
    vae.save_pretrained(recipe.run / "vae")
    return vae


def decoding_loss(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """What is measured, PSNR (in tens of dB), and what is looked at, the things in the picture."""
    return reconstruction_loss(result, target, weight) - psnr(result, target).mean() / 10


if __name__ == "__main__":
    train(from_command_line(Recipe, __doc__))
