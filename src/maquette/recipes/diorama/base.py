"""Stage 3 of the embedded base: text encoder and U-Net together, on cached latents.

    python -m maquette.recipes.diorama.base --run runs/diorama

v-prediction on Stable Diffusion's schedule; 10 % of the prompts dropped for classifier-free guidance. Two CPU cores:
50 images a second, a bit over two hours. One GPU: --device cuda --batch-size 512 --scenes 100000
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maquette.base import sample_posterior
from maquette.noise.config import noise_process
from maquette.recipes.command import run
from maquette.recipes.diorama import autoencoder, scenes, stage
from maquette.recipes.diorama.tokens import CONTEXT, train_tokenizer
from maquette.training.checkpoint import Parts
from maquette.training.ema import averaged
from maquette.training.schedule import cosine

WIDTH = 128  # of the text states
AVERAGE_EVERY = 4  # steps
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "trailing",
}
"""The noise schedule that the base is trained on, in diffusers' words."""


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 32_000
    steps: int = 12_000
    stop: int = 0  # stop after this step and keep the state; 0 for the last
    batch_size: int = 32
    learning_rate: float = 8e-4
    hold: float = 0.6  # share of the steps at full learning rate
    prompt_drop: float = 0.1
    ema: float = 0.998  # of the averaged weights, every fourth step
    channels: tuple[int, ...] = (96, 112, 112, 80)
    seed: int = 0
    device: str = "cpu"
    compile: int = 1  # on two cores 13 % faster after four minutes


class TextAndUNet(torch.nn.Module):
    """The two networks that learn together, so that one average and one optimizer serve both."""

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


def train(recipe: Recipe) -> TextAndUNet:
    moments = autoencoder.posteriors(recipe.run, recipe.scenes, recipe.device)
    captions = scenes.captions(recipe.scenes)
    tokenizer = _tokenizer(recipe, captions)
    tokens, empty = (tokenize(tokenizer, words).to(recipe.device) for words in (captions, [""]))
    torch.manual_seed(recipe.seed)
    model = TextAndUNet(recipe, tokenizer, moments.shape[1] // 2).to(recipe.device)
    average = averaged(model, recipe.ema)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    parts: Parts = {"model": model, "average": average, "optimizer": optimizer}
    predict = torch.compile(model) if recipe.compile else model
    process = noise_process(SCHEDULE)
    losses: list[Tensor] = []
    rate, report = partial(_rate, recipe), partial(stage.taken, losses)
    for step, generator in stage.steps("base", recipe, recipe.stop or recipe.steps, rate, parts, report):
        rows = torch.randint(len(tokens), (recipe.batch_size,), generator=generator, device=recipe.device)
        posteriors = moments[rows]
        latents = sample_posterior(
            posteriors, torch.randn(posteriors[:, ::2].shape, generator=generator, device=recipe.device)
        )
        drop = torch.rand((recipe.batch_size, 1), generator=generator, device=recipe.device) < recipe.prompt_drop
        words = torch.where(drop, empty, tokens[rows])
        timesteps = draw_timesteps(recipe.batch_size, generator)
        noise = torch.randn(latents.shape, generator=generator, device=recipe.device)
        noisy = process.noised(latents, noise, timesteps)
        target = process.target(latents, noise, timesteps)
        with torch.autocast(recipe.device, torch.bfloat16):
            prediction = predict(noisy, timesteps, words)
        loss = F.mse_loss(prediction.float(), target)
        stage.descend(optimizer, loss, clip=1.0)
        losses.append(loss.detach())
        if (step + 1) % AVERAGE_EVERY == 0:
            average.update_parameters(model)
    return average.module  # type: ignore[return-value]


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=150, hold=recipe.hold)


def _tokenizer(recipe: Recipe, captions: list[str]) -> CLIPTokenizer:
    """The run's own, learnt from the captions the first time."""
    folder = recipe.run / "tokenizer"
    if (folder / "tokenizer_config.json").exists():
        return CLIPTokenizer.from_pretrained(folder)
    return train_tokenizer(captions, folder)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    tokens: Tensor = tokenizer(
        captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Integers in [0, 1000): seven in ten logit-normal around the middle, where shapes form, the others uniform."""
    middle = torch.sigmoid(torch.randn(count, generator=generator, device=generator.device) - 0.2)
    uniform, choice = torch.rand((2, count), generator=generator, device=generator.device)
    return (torch.where(choice < 0.7, middle, uniform) * 1000).long().clamp(max=999)


if __name__ == "__main__":
    run(train, Recipe, __doc__)
