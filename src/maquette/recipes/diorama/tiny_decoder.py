"""A tiny decoder for the embedded base: from latents to pixels in a tenth of the time, for drafts and previews.

    python -m maquette.recipes.diorama.tiny_decoder --run runs/diorama

The idea and the layers are those of TAESD (Bohan 2023), narrower; the folder that is written is read wherever published
tiny decoders are. It learns the images themselves from the latents of the run's autoencoder, which stays as it is, and
goes on where it was interrupted. One CPU core: 20 minutes.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from maquette.backbones.tiny_decoder import TinyDecoder
from maquette.checkpoints.tiny_decoder import save_tiny_decoder
from maquette.diorama import dataset
from maquette.metrics.maps import psnr
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes, stage
from maquette.recipes.diorama.autoencoder import classes_weight, posteriors
from maquette.recipes.diorama.decoder import decoding_loss
from maquette.training.checkpoint import Parts
from maquette.training.stages import cosine


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 8_000
    held_out: int = 200  # scenes on which PSNR is watched
    steps: int = 3_600
    batch_size: int = 8
    learning_rate: float = 4e-3
    channels: int = 16  # of every layer
    blocks: tuple[int, ...] = (3, 3, 3, 1)  # at 1/8, 1/4, 1/2 and the whole of the image's size
    seed: int = 0
    device: str = "cpu"


def train(recipe: Recipe) -> TinyDecoder:
    """Train it and save it to the run's folder `tiny_decoder`; resumes an interrupted training."""
    moments = posteriors(recipe.run, recipe.scenes, recipe.device)
    images, classes = scenes.load(recipe.scenes, recipe.device, "images", "classes")
    (held_out,) = scenes.load(recipe.held_out, recipe.device, "images", first=dataset.VALIDATION)
    seen = posteriors(recipe.run, recipe.held_out, recipe.device, dataset.VALIDATION).float().chunk(2, dim=1)[0]
    torch.manual_seed(recipe.seed)
    decoder = TinyDecoder.build(moments.shape[1] // 2, recipe.channels, recipe.blocks).to(recipe.device)
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    parts: Parts = {"tiny_decoder": decoder, "optimizer": optimizer}
    rate, report = partial(_rate, recipe), partial(quality, decoder, seen, held_out)
    for _, generator in stage.steps("tiny_decoder", recipe, recipe.steps, rate, parts, report, every=200):
        rows = torch.randint(len(images), (recipe.batch_size,), generator=generator, device=recipe.device)
        target, latents = scenes.to_pixels(images[rows]), moments[rows].float().chunk(2, dim=1)[0]
        with torch.autocast(recipe.device, torch.bfloat16):
            result = decoder(latents)
        loss = decoding_loss(result.float(), target, classes_weight(classes[rows]))
        stage.descend(optimizer, loss, clip=1.0)
    save_tiny_decoder(decoder, recipe.run / "tiny_decoder")
    return decoder


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=100, hold=0.2)


@torch.no_grad()
def quality(decoder: TinyDecoder, latents: Tensor, images: Tensor) -> str:
    """Mean PSNR of images (N, H, W, 3) decoded from their latents (N, C, h, w), as text for the log."""
    batches = zip(latents.split(50), images.split(50), strict=True)
    values = [psnr(decoder(batch).clamp(-1, 1), scenes.to_pixels(target)) for batch, target in batches]
    return f"PSNR {torch.cat(values).mean().item():.2f} dB"


if __name__ == "__main__":
    run(train, Recipe, __doc__)
