"""The diorama's perception model: one small network for classes, colours, depth, normals and key points.

    python -m maquette.recipes.diorama.perception --run runs/diorama

Two CPU cores: half an hour. One GPU, two minutes: --device cuda --batch-size 64
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from maquette.conditions.networks.perception import NEAREST, Perception
from maquette.diorama import SIZE
from maquette.foundation.files import atomic_write
from maquette.recipes.command import run
from maquette.recipes.diorama import scenes, stage
from maquette.training.checkpoint import Parts
from maquette.training.stages import cosine

FIELDS = ("images", "classes", "colours", "depth", "normals", "keypoints")
SPREAD = 1.5  # pixels: standard deviation of the blob that marks a key point
EMPTY = -4.0  # initial logit of a key point: a probability of 1 in 50


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 16_000
    steps: int = 4_500
    batch_size: int = 16
    learning_rate: float = 3e-3
    seed: int = 0
    device: str = "cpu"


def train(recipe: Recipe) -> Perception:
    """Train, and save to perception.safetensors in the run's folder; resumes an interrupted training."""
    data = dict(zip(FIELDS, scenes.load(recipe.scenes, recipe.device, *FIELDS), strict=True))
    torch.manual_seed(recipe.seed)
    network = Perception().to(recipe.device).train()
    torch.nn.init.constant_(network.heads["keypoints"].get_parameter("bias"), EMPTY)
    optimizer = torch.optim.AdamW(network.parameters(), lr=recipe.learning_rate, weight_decay=1e-2, fused=True)
    parts: Parts = {"network": network, "optimizer": optimizer}
    losses: list[Tensor] = []
    rate, report = partial(_rate, recipe), partial(stage.taken, losses)
    for _, generator in stage.steps("perception", recipe, recipe.steps, rate, parts, report):
        rows = torch.randint(recipe.scenes, (recipe.batch_size,), generator=generator, device=recipe.device)
        batch = {field: values[rows] for field, values in data.items()}
        with torch.autocast(recipe.device, torch.bfloat16):
            maps = network(augment(scenes.to_pixels(batch["images"]), generator))
        loss = perception_loss({name: value.float() for name, value in maps.items()}, batch)
        stage.descend(optimizer, loss)
        losses.append(loss.detach())
    with atomic_write(recipe.run / "perception.safetensors") as path:
        save_file({name: _half(value) for name, value in network.state_dict().items()}, path)
    return network


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=100)


def _half(value: Tensor) -> Tensor:
    """A weight of any shape for the file: floats in half precision."""
    return value.half().cpu().contiguous() if value.is_floating_point() else value.cpu()


def augment(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Add slight blur, noise and a colour cast, as in generated images, to pixels (B, 3, H, W) in [-1, 1]."""

    def normal(*shape: int) -> Tensor:
        """Standard normal noise in shape `shape`."""
        return torch.randn(shape, generator=generator, device=generator.device)

    soft = F.avg_pool2d(pixels, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.sigmoid(normal(len(pixels), 1, 1, 1))
    grain = 0.02 * normal(len(pixels), 1, 1, 1) * normal(*pixels.shape)
    return pixels + share * (soft - pixels) + 0.04 * normal(len(pixels), 3, 1, 1) + grain


def perception_loss(maps: dict[str, Tensor], batch: dict[str, Tensor]) -> Tensor:
    """Weighted sum of the heads' losses, about equal in size; a scalar.

    Args:
        maps: the network's outputs, (B, channels, H, W) each.
        batch: scenes as `FIELDS` of `dataset.load`, first axis the scene.
    """
    disparity = NEAREST / batch["depth"].float()
    normals = batch["normals"].permute(0, 3, 1, 2).float() / 127
    heat = heat_maps(batch["keypoints"])
    surface = normals.square().sum(dim=1) > 0.5
    cosine_error = 1 - F.cosine_similarity(maps["normals"], normals, dim=1)
    depth_error = (maps["disparity"][:, 0] - disparity).abs() / (disparity + 0.02)
    return (
        F.cross_entropy(maps["classes"], batch["classes"].long())
        + 0.5 * F.cross_entropy(maps["colours"], batch["colours"].long())
        + 0.5 * depth_error.mean()
        + 0.5 * (cosine_error * surface).sum() / surface.sum()
        + 0.2 * keypoint_loss(maps["keypoints"], heat)
    )


def keypoint_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Quality focal loss (Li et al. 2020, eq. 5, β = 2) per key point, since most of every map is empty.

    `logits` and `heat` are (B, 18, H, W), `heat` in [0, 1].
    """
    entropy = F.binary_cross_entropy_with_logits(logits, heat, reduction="none")
    return ((heat - logits.sigmoid()).square() * entropy).sum() / heat.sum().clamp_min(1)


def heat_maps(keypoints: Tensor) -> Tensor:
    """(B, people, 18, 3) to (B, 18, H, W): a blob of height 1 on every visible key point."""
    centres = torch.arange(SIZE, device=keypoints.device) + 0.5
    across = torch.exp(-((centres - keypoints[..., :1]) ** 2) / (2 * SPREAD**2))
    down = torch.exp(-((centres - keypoints[..., 1:2]) ** 2) / (2 * SPREAD**2)) * (keypoints[..., 2:] > 0)
    people = keypoints.shape[1]
    blobs = [down[:, p, :, :, None] * across[:, p, :, None, :] for p in range(people)]
    return torch.stack(blobs).amax(dim=0)


if __name__ == "__main__":
    run(train, Recipe, __doc__)
