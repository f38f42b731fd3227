"""Stage 2 of the embedded base: text encoder and U-Net together, on cached latents.

    python -m maquette.recipes.diorama.base --run runs/diorama

v-prediction on Stable Diffusion's schedule; 10 % of the prompts dropped for
classifier-free guidance. Two CPU cores: 60 pictures a second, about five hours.
"""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maquette.diorama import dataset
from maquette.foundation.files import written_whole
from maquette.recipes.diorama.autoencoder import encode
from maquette.recipes.diorama.tokens import CONTEXT, train_tokenizer
from maquette.training import checkpoint
from maquette.training.schedule import cosine

WIDTH = 128  # of the text states
SCENES = Path("runs/scenes")


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 32_000
    steps: int = 18_000
    stop: int = 0  # stop here and keep the state, 0 for the last step
    batch_size: int = 32
    learning_rate: float = 8e-4
    hold: float = 0.6  # share of the steps at full learning rate
    prompt_drop: float = 0.1
    ema: float = 0.999
    channels: tuple[int, ...] = (96, 112, 112, 80)
    seed: int = 0
    device: str = "cpu"
    compile: int = 1  # worth it over hours: 13 % faster on two cores, after four minutes


class TextAndUNet(torch.nn.Module):
    """The two networks that learn together, so that one average and one optimiser serve both."""

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                max_position_embeddings=CONTEXT,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                attn_implementation="eager",
            )
        )
        self.unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=recipe.channels,
            layers_per_block=2,
            cross_attention_dim=WIDTH,
            attention_head_dim=2,
            norm_num_groups=8,
            use_linear_projection=True,
        )
        if recipe.device == "cpu":  # the backward pass of fused attention is slow there
            self.unet.set_attn_processor(AttnProcessor())

    def forward(self, latents: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        states = self.text_encoder(tokens).last_hidden_state
        prediction: Tensor = self.unet(latents, timesteps, states).sample
        return prediction


def schedule() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        timestep_spacing="trailing",
    )


def train(recipe: Recipe) -> TextAndUNet:
    seeds = range(dataset.TRAIN, dataset.TRAIN + recipe.scenes)
    moments = posteriors(recipe)
    captions = dataset.load_captions(seeds, SCENES)
    tokenizer = train_tokenizer(captions, recipe.run / "tokenizer")
    tokens, empty = tokenize(tokenizer, captions), tokenize(tokenizer, [""])
    torch.manual_seed(recipe.seed)
    model = TextAndUNet(recipe, tokenizer, moments.shape[1] // 2).to(recipe.device)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema))
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    parts: checkpoint.Parts = {"model": model, "average": average, "optimiser": optimiser}
    predict = torch.compile(model) if recipe.compile else model
    state, noise_schedule = recipe.run / "base.pt", schedule()
    start, last = checkpoint.restore(state, parts), recipe.stop or recipe.steps
    bar, total = tqdm(range(start, last), initial=start, total=last, desc="base", mininterval=10), 0.0
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = recipe.learning_rate * cosine(step, recipe.steps, warmup=150, hold=recipe.hold)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        rows = torch.randint(len(tokens), (recipe.batch_size,), generator=generator)
        latents = sample(moments[rows], generator)
        drop = torch.rand(recipe.batch_size, 1, generator=generator) < recipe.prompt_drop
        words = torch.where(drop, empty, tokens[rows])
        timesteps = draw_timesteps(recipe.batch_size, generator)
        noise = torch.randn(latents.shape, generator=generator)
        noisy = noise_schedule.add_noise(latents, noise, timesteps)
        target = noise_schedule.get_velocity(latents, noise, timesteps)
        with torch.autocast(recipe.device, torch.bfloat16):
            prediction = predict(noisy.to(recipe.device), timesteps.to(recipe.device), words.to(recipe.device))
        loss = F.mse_loss(prediction.float(), target.to(recipe.device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 4 == 0:
            average.update_parameters(model)
        total += loss.item()
        if (step + 1) % 500 == 0 or step + 1 == last:
            checkpoint.save(state, step + 1, parts)
            bar.write(f"step {step + 1}: loss {total / 500:.4f}")
            total = 0.0
    return cast(TextAndUNet, average.module)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens: Tensor = tokenizer(
        captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Integers in [0, 1000): seven in ten logit-normal around the middle, where shapes form, the others uniform."""
    middle = torch.sigmoid(torch.randn(count, generator=generator) - 0.2)
    uniform = torch.rand(count, generator=generator)
    share = torch.where(torch.rand(count, generator=generator) < 0.7, middle, uniform)
    return (share * 1000).long().clamp(max=999)


def sample(moments: Tensor, generator: torch.Generator) -> Tensor:
    """A fresh draw from cached posteriors: mean and log-variance along the channels."""
    mean, logvar = moments.float().chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(-30, 20)) * torch.randn(mean.shape, generator=generator)


def posteriors(recipe: Recipe) -> Tensor:
    """Posterior moments (N, 2C, h, w) of all pictures, half precision, encoded once and kept."""
    kept = recipe.run / f"moments-{recipe.scenes}.pt"
    if not kept.exists():
        vae = AutoencoderKL.from_pretrained(recipe.run / "vae").to(recipe.device)
        seeds = range(dataset.TRAIN, dataset.TRAIN + recipe.scenes)
        dataset.prepare(seeds, SCENES)
        moments = encode(vae, dataset.load(seeds, SCENES, "images"))
        with written_whole(kept) as path:
            torch.save(moments, path)
    kept_moments: Tensor = torch.load(kept, weights_only=True)
    return kept_moments


def main() -> None:
    """Read the recipe's settings from the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    for field in fields(Recipe):
        if field.type in (int, float, str, Path):
            parser.add_argument(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default)
    train(Recipe(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
