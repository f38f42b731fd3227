"""A base fine-tuned to a part of its world, the scenes at night, and pairs of these to train a ControlNet on it."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F

from maquette.base import Base
from maquette.baselines.batches import Batches
from maquette.baselines.diffusion import noisy, plain_unet
from maquette.baselines.protocol import Budget
from maquette.baselines.steps import descend, steps, taken
from maquette.baselines.trained import Place, mixed
from maquette.checkpoints.save import save_base
from maquette.data.crop import CropView
from maquette.data.diorama import Pairs
from maquette.diorama.wording import world_of
from maquette.foundation.files import atomic_write

RATE = 1e-4
PROMPT_DROP = 0.1  # share of empty prompts, so that guidance stays as it was
CLIP = 1.0


def rows_at_night(pairs: Pairs) -> list[int]:
    """The rows of the scenes at night that show the pairs' condition."""
    return [int(row) for row in pairs.usable() if world_of(pairs.seeds[row]).setting.night]


def fine_tune(base: Base, pairs: Pairs, budget: Budget, folder: Path) -> None:
    """Train a base's whole U-Net, in place, on the scenes at night, and save it; an interrupted run goes on.

    The base's own loss, at a constant rate.

    Raises `MaquetteError` for a base without a U-Net.
    """
    unet = plain_unet(base, "fine-tuning").network.requires_grad_(True).train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=RATE)
    batches = Batches(base, pairs, budget.batch_size, rows_at_night(pairs))
    losses: list[torch.Tensor] = []
    parts, place = {"unet": unet, "optimizer": optimizer}, Place(folder, budget.seed)
    for step, source in steps("night", place, budget.steps, lambda _: RATE, parts, lambda: taken(losses)):
        batch = batches.draw(step, source)
        kept = torch.rand(len(batch.texts), generator=source) >= PROMPT_DROP
        texts = [text if keep else "" for text, keep in zip(batch.texts, kept, strict=True)]
        latents, times, target = noisy(base, batch.posteriors(), source)
        with torch.no_grad():
            states = base.encode_text(texts).hidden_states
        with mixed(base.device):
            prediction = unet(latents, times, states).sample
        loss = F.mse_loss(prediction.float(), target)
        descend(optimizer, loss, CLIP)
        losses.append(loss.detach())
    unet.requires_grad_(False).eval()
    save_base(base, folder)


def write_pairs(pairs: Pairs, folder: Path) -> None:
    """Write the scenes at night, unless they are there, as a data set with ready maps that `maquette train` reads."""
    index = folder / "metadata.jsonl"
    if index.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for row in rows_at_night(pairs):
        names = {"file_name": f"{row}.png", "conditioning_image": f"{row}-{pairs.condition}.png"}
        pairs.image(row, CropView()).save(folder / names["file_name"])
        pairs.standard(row).save(folder / names["conditioning_image"])
        lines.append(json.dumps({**names, "text": pairs.text(row)}) + "\n")
    with atomic_write(index) as path:
        path.write_text("".join(lines), "utf-8")
