"""Put what was trained where the package keeps it: a diffusers folder in half precision, and the rest beside it.

    python -m maquette.recipes.diorama.ship --run runs/diorama
    python -m maquette.recipes.diorama.ship --base diorama-mmdit --nets runs/mmdit --target weights/diorama-mmdit

Takes the averaged weights of the base and `perception.safetensors`, or the transformer's folder RUN/mmdit; and every
finished ControlNet in NETS.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch.optim.swa_utils import AveragedModel
from transformers import CLIPTokenizer

from maquette.base import Defaults
from maquette.checkpoints import load_base, load_controlnet
from maquette.checkpoints.save import write_defaults
from maquette.checkpoints.tiny_decoder import FOLDER as TINY_DECODER
from maquette.data.diorama import CONDITIONS
from maquette.recipes.command import run
from maquette.recipes.diorama import base as recipes
from maquette.text.clip import WORDS

INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

DEFAULTS = Defaults(steps=20, guidance=4.0, sampler="ddim")


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    target: Path = Path("src/maquette/weights/diorama")
    base: str = "diorama"  # or diorama-mmdit
    nets: Path | None = None  # the ControlNets' runs, by condition; RUN/controlnets by default


def ship(recipe: Recipe) -> None:
    if recipe.base == "diorama":
        ship_base(recipe.run, recipe.target / "base")
        if (recipe.run / "perception.safetensors").exists():
            shutil.copy(recipe.run / "perception.safetensors", recipe.target / "perception.safetensors")
    else:
        shutil.copytree(recipe.run / "mmdit", recipe.target / "base", dirs_exist_ok=True)
    ship_controlnets(recipe.nets or recipe.run / "controlnets", recipe.target, recipe.base)


def ship_controlnets(runs: Path, target: Path, name: str) -> None:
    """Those that are finished, in half precision, with their base under the name it is bundled by."""
    base = load_base(target / "base", "cpu", "float32")
    for condition in (one for one in CONDITIONS if (runs / one / "config.json").exists()):
        net = load_controlnet(runs / condition, base).half()
        net.contract = replace(net.contract, base=name)
        net.save(target / "controlnets" / condition)


def ship_base(run: Path, folder: Path) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(run / "tokenizer")
    vae = AutoencoderKL.from_pretrained(run / "vae")
    average = _averaged(run, tokenizer, vae.config.latent_channels)
    for name, part in (("vae", vae), ("unet", average.unet), ("text_encoder", average.text_encoder)):
        part.half().save_pretrained(folder / name)
    tokenizer.save_pretrained(folder / "tokenizer")
    shutil.copy(run / "tokenizer" / WORDS, folder / "tokenizer" / WORDS)
    DDIMScheduler.from_config(recipes.SCHEDULE).save_pretrained(folder / "scheduler")
    if (run / TINY_DECODER).exists():
        shutil.copytree(run / TINY_DECODER, folder / TINY_DECODER, dirs_exist_ok=True)
    write_defaults(DEFAULTS, folder)
    (folder / "model_index.json").write_text(json.dumps(INDEX, indent=2) + "\n")


def _averaged(run: Path, tokenizer: CLIPTokenizer, latent_channels: int) -> recipes.TextAndUNet:
    model = AveragedModel(recipes.TextAndUNet(recipes.Recipe(), tokenizer, latent_channels))
    model.load_state_dict(torch.load(run / "base.pt", weights_only=True, map_location="cpu")["average"])
    return cast(recipes.TextAndUNet, model.module)


if __name__ == "__main__":
    run(ship, Recipe, __doc__)
