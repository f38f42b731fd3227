"""Stage 1 of the embedded base: an autoencoder, f = 8, trained on rendered scenes.

    python -m maquette.recipes.diorama.autoencoder --run runs/diorama

Two CPU cores: 70 minutes. One GPU, some minutes: --device cuda --batch-size 256 --scenes 100000 --compile 1
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from tqdm import tqdm

from maquette.diorama import CLASSES, SIZE, dataset
from maquette.foundation.files import atomic_write
from maquette.metrics.maps import psnr
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes, stage
from maquette.training.checkpoint import Parts
from maquette.training.stages import cosine

CROP = 64  # pixels; half of the early steps train on crops around things
WEIGHTS = {"sky": 1.0, "hills": 1.0, "ground": 1.0, "person": 6.0}  # of the pixels' errors; other classes 3


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 16_000
    held_out: int = 200  # scenes for reporting PSNR
    steps: int = 4_600  # on whole images and crops, the learning rate decaying to 0
    refine: int = 2_600  # further steps on whole images, with more weight on the squared error
    batch_size: int = 16
    learning_rate: float = 1.7e-3
    refine_rate: float = 9e-4
    channels: tuple[int, ...] = (16, 32, 96, 160)
    latent_channels: int = 8
    seed: int = 0
    device: str = "cpu"
    compile: int = 0  # 1 on a GPU


def build(recipe: Recipe) -> AutoencoderKL:
    """The untrained autoencoder. One norm group: the backward pass through many small ones is slow on a CPU."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=1,
        mid_block_add_attention=False,
        sample_size=SIZE,
    )


def train(recipe: Recipe) -> AutoencoderKL:
    """Train, whiten the latents and save to the run's folder `vae`; resumes an interrupted training."""
    images, classes = scenes.load(recipe.scenes, recipe.device, "images", "classes")
    (held_out,) = scenes.load(recipe.held_out, recipe.device, "images", first=dataset.VALIDATION)
    torch.manual_seed(recipe.seed)
    vae = build(recipe).to(recipe.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=1e-3, fused=True)
    parts: Parts = {"vae": vae, "optimizer": optimizer}
    through = torch.compile(_through) if recipe.compile else _through
    last, rate, report = recipe.steps + recipe.refine, partial(_rate, recipe), partial(quality, vae, held_out)
    for step, generator in stage.steps("autoencoder", recipe, last, rate, parts, report):
        target, weight = _batch(images, classes, recipe, step, generator)
        with torch.autocast(recipe.device, torch.bfloat16):
            noise = torch.randn(_latent_shape(recipe, target), generator=generator, device=recipe.device)
            result, kl = through(vae, target, noise)
        loss = reconstruction_loss(result.float(), target, weight) + 1e-4 * kl / target[0].numel()
        if step >= recipe.steps:
            loss = loss + 4 * F.mse_loss(result.float(), target)
        stage.descend(optimizer, loss, clip=1.0)
    whiten(vae, encode(vae, images[:4000]))
    vae.save_pretrained(recipe.run / "vae")
    return vae


def _through(vae: AutoencoderKL, target: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruct (B, 3, H, W) from a posterior sample, and the mean KL divergence () from the prior."""
    posterior = vae.encode(target).latent_dist
    return vae.decode(posterior.mean + posterior.std * noise).sample, posterior.kl().mean()


def _latent_shape(recipe: Recipe, target: Tensor) -> tuple[int, int, int, int]:
    """Shape (B, C, H/8, W/8) of the latents of pixels (B, 3, H, W)."""
    return len(target), recipe.latent_channels, target.shape[2] // 8, target.shape[3] // 8


def _rate(recipe: Recipe, step: int) -> float:
    """The learning rate: a cosine schedule for each of the two phases."""
    if step < recipe.steps:
        return recipe.learning_rate * cosine(step, recipe.steps, warmup=100, hold=0.2)
    return recipe.refine_rate * cosine(step - recipe.steps, recipe.refine, warmup=100, hold=0.2)


def _batch(
    images: Tensor, classes: Tensor, recipe: Recipe, step: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Pixels (B, 3, H, W) in [-1, 1] and weights (B, 1, H, W) of a batch.

    In half of the first 60 % of the steps, four times as many crops around things in place of whole images.
    """
    device = images.device
    crop = step < 0.6 * recipe.steps and step % 2 == 1
    count = recipe.batch_size * (4 if crop else 1)
    rows = torch.randint(len(images), (count,), generator=generator, device=device)
    if not crop:
        pixels, kinds = images[rows], classes[rows]
    else:
        down, across = _windows(classes[rows], generator)
        pixels, kinds = images[rows[:, None, None], down, across], classes[rows[:, None, None], down, across]
    return scenes.to_pixels(pixels), classes_weight(kinds)


def classes_weight(classes: Tensor) -> Tensor:
    """Weights (B, 1, H, W) of the pixels' errors from class maps (B, H, W)."""
    table = torch.tensor([WEIGHTS.get(name, 3.0) for name in CLASSES], device=classes.device)
    return table[classes.long()][:, None]


def _windows(classes: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rows (B, CROP, 1) and columns (B, 1, CROP) of a crop around a random pixel of a thing."""
    things = (classes > CLASSES.index("ground")).flatten(1).float() + 1e-6
    centre = torch.multinomial(things, 1, generator=generator)
    jitter = torch.randint(-16, 17, (2, len(classes), 1), generator=generator, device=classes.device)
    side = torch.arange(CROP, device=classes.device)
    corners = [
        (middle + offset - CROP // 2).clamp(0, SIZE - CROP)
        for middle, offset in zip((centre // SIZE, centre % SIZE), jitter, strict=True)
    ]
    return (corners[0] + side)[:, :, None], (corners[1] + side)[:, None, :]


def reconstruction_loss(result: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Absolute and squared error, error of the gradients (for sharp edges) and of the image at a quarter of its size.

    Args:
        result, target: pixels (B, 3, H, W) in [-1, 1].
        weight: of each pixel's error, (B, 1, H, W).
    """
    error = result - target
    gradients = [(error.diff(dim=a).abs() * weight.narrow(a, 0, weight.shape[a] - 1)).mean() for a in (2, 3)]
    coarse = F.avg_pool2d(error, 4).abs().mean()
    squared = (error.square() * weight).mean()
    return (error.abs() * weight).mean() + 0.8 * (gradients[0] + gradients[1]) + 0.5 * coarse + 0.5 * squared


@torch.no_grad()
def quality(vae: AutoencoderKL, images: Tensor) -> str:
    """Mean PSNR of the reconstructions of images (N, H, W, 3), as text for the log."""
    batches = [scenes.to_pixels(batch) for batch in images.split(50)]
    values = [psnr(vae.decode(vae.encode(target).latent_dist.mean).sample, target) for target in batches]
    return f"PSNR {torch.cat(values).mean().item():.2f} dB"


@torch.no_grad()
def encode(vae: AutoencoderKL, images: Tensor) -> Tensor:
    """Posterior moments (N, 2C, h, w) of images (N, H, W, 3), half precision."""
    parts = []
    for batch in tqdm(images.split(64), desc="encoding", mininterval=5):
        with torch.autocast(images.device.type, torch.bfloat16):
            parts.append(vae.encode(scenes.to_pixels(batch)).latent_dist.parameters.half())
    return torch.cat(parts)


def posteriors(run: Path, count: int, device: str, first: int = dataset.TRAIN) -> Tensor:
    """Posterior moments (N, 2C, h, w) of `count` scenes' images by a run's encoder, cached on disk."""
    vae = AutoencoderKL.from_pretrained(run / "vae").to(device, memory_format=torch.channels_last)
    which = f"{count}" if first == dataset.TRAIN else f"{first}+{count}"
    cache = run / f"moments-{which}-{fingerprint(vae.encoder, vae.quant_conv)}.pt"
    if not cache.exists():
        (images,) = scenes.load(count, device, "images", first=first)
        with atomic_write(cache) as path:
            torch.save(encode(vae, images), path)
    moments: Tensor = torch.load(cache, weights_only=True, map_location=device)
    return moments


def fingerprint(*modules: nn.Module) -> str:
    """Hash of the weights, 12 hexadecimal digits."""
    digest = hashlib.sha256()
    for module in modules:
        for value in module.state_dict().values():
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def whiten(vae: AutoencoderKL, moments: Tensor) -> None:
    """Normalise each latent channel by folding a shift and a scale into the 1×1 convolutions before and after it.

    Afterwards every channel has mean 0 and standard deviation 1 over the images of `moments` (N, 2C, h, w), and
    reconstructions are unchanged.
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
    vae.register_to_config(scaling_factor=1.0)


if __name__ == "__main__":
    run(train, Recipe, __doc__)
