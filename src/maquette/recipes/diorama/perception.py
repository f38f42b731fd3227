"""The diorama's detectors: one small network that sees classes, colours, depth, normals and key points.

    python -m maquette.recipes.diorama.perception --run runs/diorama

Two CPU cores: about fifteen minutes.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from maquette.conditions.perception import NEAREST, Perception
from maquette.data.diorama import SCENES
from maquette.diorama import SIZE, dataset
from maquette.foundation.files import written_whole
from maquette.recipes.diorama.autoencoder import to_tensor
from maquette.training import checkpoint
from maquette.training.schedule import cosine

FIELDS = ("images", "classes", "colours", "depth", "normals", "keypoints")
SPREAD = 1.5  # pixels: deviation of the blob that marks a key point


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 16_000
    steps: int = 3_000
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    device: str = "cpu"


def train(recipe: Recipe) -> Perception:
    seeds = range(dataset.TRAIN, dataset.TRAIN + recipe.scenes)
    dataset.prepare(seeds, SCENES)
    data = {field: dataset.load(seeds, SCENES, field) for field in FIELDS}
    torch.manual_seed(recipe.seed)
    network = Perception().to(recipe.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2, fused=True)
    parts: checkpoint.Parts = {"network": network, "optimiser": optimiser}
    state = recipe.run / "perception.pt"
    start = checkpoint.restore(state, parts)
    bar, losses = tqdm(range(start, recipe.steps), initial=start, total=recipe.steps, mininterval=5), []
    for step in bar:
        rng = np.random.default_rng((recipe.seed, step))
        rows = rng.integers(recipe.scenes, size=recipe.batch_size)
        batch = {field: values[rows] for field, values in data.items()}
        pixels = _disturbed(to_tensor(batch["images"]), rng).to(recipe.device)
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=100)
        with torch.autocast(recipe.device, torch.bfloat16):
            maps = network(pixels)
        loss = seeing_loss({name: value.float() for name, value in maps.items()}, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0 or step + 1 == recipe.steps:
            checkpoint.save(state, step + 1, parts)
            bar.write(f"step {step + 1}: loss {np.mean(losses[-250:]):.4f}")
    weights = {
        name: value.half().cpu() if value.is_floating_point() else value for name, value in network.state_dict().items()
    }
    with written_whole(recipe.run / "perception.safetensors") as path:
        save_file(weights, path)
    return network


def _disturbed(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """A little blur, noise and other light, as generated pictures have them."""
    soft = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.from_numpy(rng.uniform(0, 0.9, (len(pixels), 1, 1, 1)).astype(np.float32))
    light = torch.from_numpy(rng.normal(0, 0.04, (len(pixels), 3, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, rng.uniform(0, 0.03), pixels.shape).astype(np.float32))
    return pixels + share * (soft - pixels) + light + noise


def seeing_loss(maps: dict[str, Tensor], batch: dict[str, NDArray[Any]]) -> Tensor:
    """The sum of the heads' losses, each about as large as the others."""
    device = maps["classes"].device
    truth = {field: torch.from_numpy(batch[field]).to(device) for field in ("classes", "colours")}
    disparity = torch.from_numpy(NEAREST / batch["depth"].astype(np.float32)).to(device)
    normals = torch.from_numpy(batch["normals"].astype(np.float32) / 127).permute(0, 3, 1, 2).to(device)
    heat = torch.from_numpy(heat_maps(batch["keypoints"])).to(device)
    surface = normals.square().sum(dim=1) > 0.5
    cosine = F.cosine_similarity(maps["normals"], normals, dim=1)
    depth_error = (maps["disparity"][:, 0] - disparity).abs() / (disparity + 0.02)
    points = F.binary_cross_entropy_with_logits(maps["keypoints"], heat, reduction="none")
    return (
        F.cross_entropy(maps["classes"], truth["classes"].long())
        + 0.5 * F.cross_entropy(maps["colours"], truth["colours"].long())
        + 0.5 * depth_error.mean()
        + 0.5 * (1 - cosine)[surface].mean()
        + 5 * (points * (1 + 20 * heat)).mean()
    )


def heat_maps(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """(B, people, 18, 3) to (B, 18, H, W): a blob of height 1 on every seen key point."""
    centres = (np.arange(SIZE) + 0.5).astype(np.float32)
    across = np.exp(-((centres - keypoints[..., :1]) ** 2) / (2 * SPREAD**2))
    down = np.exp(-((centres - keypoints[..., 1:2]) ** 2) / (2 * SPREAD**2)) * (keypoints[..., 2:] > 0)
    blobs = [np.einsum("bky,bkx->bkyx", down[:, p], across[:, p]) for p in range(keypoints.shape[1])]
    return np.max(blobs, axis=0).astype(np.float32)


def main() -> None:
    """Read the recipe's settings from the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Recipe):
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    train(Recipe(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
