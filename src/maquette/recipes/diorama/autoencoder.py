"""Stage 1 of the embedded base: an autoencoder, f = 8, trained on rendered scenes.

    python -m maquette.recipes.diorama.autoencoder --run runs/diorama

Two CPU cores: about 45 minutes. One GPU: `--batch-size 256 --scenes 100000`, some minutes.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from maquette.diorama import CLASSES, dataset
from maquette.training import checkpoint
from maquette.training.schedule import cosine

CROP = 64  # pixels: object-centred crops in half of the early steps
WEIGHTS = {"sky": 1.0, "hills": 1.0, "ground": 1.0, "person": 6.0}  # of a pixel's error; others 3


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 16_000
    steps: int = 4_600  # whole pictures and crops, the learning rate down to 0
    refine: int = 2_600  # then so many more on whole pictures, for the squared error, from a lower rate
    batch_size: int = 16
    learning_rate: float = 1.7e-3
    refine_rate: float = 9e-4
    channels: tuple[int, ...] = (16, 32, 96, 160)
    latent_channels: int = 8
    seed: int = 0
    device: str = "cpu"


def build(recipe: Recipe) -> AutoencoderKL:
    """One norm group, since a backward pass through many small ones is slow on a CPU."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=128,
    )


def train(recipe: Recipe) -> AutoencoderKL:
    seeds = range(dataset.TRAIN, dataset.TRAIN + recipe.scenes)
    folder = Path("runs/scenes")
    dataset.prepare(seeds, folder)
    images, classes = (dataset.load(seeds, folder, field) for field in ("images", "classes"))
    torch.manual_seed(recipe.seed)
    vae = build(recipe).to(recipe.device, memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(
        vae.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.99), weight_decay=1e-3, fused=True
    )
    state = recipe.run / "autoencoder.pt"
    start = checkpoint.restore(state, {"vae": vae, "optimiser": optimiser})
    last = recipe.steps + recipe.refine
    bar = tqdm(range(start, last), initial=start, total=last, desc="autoencoder", mininterval=10)
    for step in bar:
        rng = np.random.default_rng((recipe.seed, step))
        target, weight = _batch(images, classes, recipe, step, rng)
        target, weight = target.to(recipe.device), weight.to(recipe.device)
        for group in optimiser.param_groups:
            group["lr"] = _rate(recipe, step)
        with torch.autocast(recipe.device, torch.bfloat16):
            posterior = vae.encode(target.contiguous(memory_format=torch.channels_last)).latent_dist
            result = vae.decode(posterior.sample()).sample
        loss = reconstruction_loss(result.float(), target, weight) + 1e-4 * posterior.kl().mean() / target[0].numel()
        if step >= recipe.steps:
            loss = loss + 4 * F.mse_loss(result.float(), target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 500 == 0 or step + 1 == last:
            checkpoint.save(state, step + 1, {"vae": vae, "optimiser": optimiser})
            bar.write(f"step {step + 1}: PSNR {psnr(vae, _held_out(200), recipe.device):.2f} dB")
    whiten(vae, encode(vae, images[:4000]))
    vae.save_pretrained(recipe.run / "vae")
    return vae


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate: two cosines, one after the other."""
    if step < recipe.steps:
        return recipe.learning_rate * cosine(step, recipe.steps, warmup=100, hold=0.2)
    return recipe.refine_rate * cosine(step - recipe.steps, recipe.refine, warmup=100, hold=0.2)


def _batch(
    images: NDArray[Any], classes: NDArray[Any], recipe: Recipe, step: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Whole pictures, or four times as many crops around things in half of the first 60 % of the steps."""
    crop = step < 0.6 * recipe.steps and rng.random() < 0.5
    rows = rng.integers(len(images), size=recipe.batch_size * (4 if crop else 1))
    windows = [_around_a_thing(classes[row], rng) if crop else (slice(None), slice(None)) for row in rows]
    pixels = np.stack([images[row][window] for row, window in zip(rows, windows, strict=True)])
    kinds = np.stack([classes[row][window] for row, window in zip(rows, windows, strict=True)])
    weight = np.array([WEIGHTS.get(name, 3.0) for name in CLASSES], np.float32)[kinds]
    return to_tensor(pixels), torch.from_numpy(weight)[:, None]


def _around_a_thing(classes: NDArray[Any], rng: np.random.Generator) -> tuple[slice, slice]:
    places = np.flatnonzero(classes.ravel() > CLASSES.index("ground"))
    size = classes.shape[0]
    centre = divmod(int(rng.choice(places)), size) if len(places) else (size // 2, size // 2)
    top, left = (int(np.clip(c - CROP // 2 + rng.integers(-16, 17), 0, size - CROP)) for c in centre)
    return slice(top, top + CROP), slice(left, left + CROP)


def to_tensor(pixels: NDArray[Any]) -> Tensor:
    """Bytes (B, H, W, 3) to (B, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def reconstruction_loss(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Absolute and squared error, error of the gradients (sharp edges) and of the picture at a quarter of its size."""
    error = result - target
    gradients = sum(
        ((error.diff(dim=axis)).abs() * weight.narrow(axis, 0, weight.shape[axis] - 1)).mean() for axis in (2, 3)
    )
    coarse = F.avg_pool2d(error, 4).abs().mean()
    return (error.abs() * weight).mean() + 0.8 * gradients + 0.5 * coarse + 0.5 * (error.square() * weight).mean()


def _held_out(count: int) -> NDArray[Any]:
    seeds = range(dataset.VALIDATION, dataset.VALIDATION + count)
    dataset.prepare(seeds, Path("runs/scenes"))
    return dataset.load(seeds, Path("runs/scenes"), "images")


@torch.no_grad()
def psnr(vae: AutoencoderKL, images: NDArray[Any], device: str) -> float:
    """Peak signal-to-noise ratio of the reconstructions in dB, the mean over pictures."""
    values = []
    for start in range(0, len(images), 50):
        target = to_tensor(images[start : start + 50]).to(device)
        result = vae.decode(vae.encode(target).latent_dist.mean).sample.clamp(-1, 1)
        error = ((result - target) / 2).square().mean(dim=(1, 2, 3))
        values += (-10 * error.log10()).tolist()
    return float(np.mean(values))


@torch.no_grad()
def encode(vae: AutoencoderKL, images: NDArray[Any], batch_size: int = 64) -> Tensor:
    """Posterior moments (N, 2C, h, w) of pictures (N, H, W, 3), half precision."""
    parts = []
    for start in tqdm(range(0, len(images), batch_size), desc="encoding", mininterval=5):
        with torch.autocast(vae.device.type, torch.bfloat16):
            pixels = to_tensor(images[start : start + batch_size]).to(vae.device)
            posterior = vae.encode(pixels.contiguous(memory_format=torch.channels_last)).latent_dist
        parts.append(posterior.parameters.half().cpu())
    return torch.cat(parts)


@torch.no_grad()
def whiten(vae: AutoencoderKL, moments: Tensor) -> None:
    """Fold a shift and a scale of each latent channel into the two 1×1 convolutions around it.

    Afterwards every channel has mean 0 and deviation 1 over `moments`' pictures, and pictures stay as they are.
    """
    means = moments[:, : moments.shape[1] // 2].float()
    shift, scale = means.mean(dim=(0, 2, 3)), means.std(dim=(0, 2, 3))
    channels = len(shift)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= scale[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - shift) / scale
    quant.bias[channels:] -= 2 * scale.log()
    post.bias += post.weight[:, :, 0, 0] @ shift
    post.weight *= scale[None, :, None, None]


def main() -> None:
    """Read the recipe's settings from the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Recipe):
        if field.type in (int, float, str, Path):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    train(Recipe(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
