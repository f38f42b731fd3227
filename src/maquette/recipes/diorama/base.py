"""Stage 3 of the embedded base: text encoder and U-Net together, on cached latents.

    python -m maquette.recipes.diorama.base --run runs/diorama

v-prediction on Stable Diffusion's schedule; 10 % of the prompts dropped for classifier-free guidance; Muon, and dense
tasks beside the noise. On two idle CPU cores: 45 images a second. To learn on from a base:
--start-from FOLDER --learning-rate 0.004. One GPU: --device cuda --batch-size 1024 --learning-rate 0.02 --ema 0.99
--steps 5000
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from maquette.base import sample_posterior
from maquette.diorama import dataset, wording
from maquette.foundation.files import atomic_write
from maquette.noise.config import noise_process
from maquette.recipes.command import run
from maquette.recipes.diorama import autoencoder, dense, scenes, stage
from maquette.recipes.diorama.tokens import CONTEXT, train_tokenizer
from maquette.text.clip import WORDS, words_of
from maquette.training.checkpoint import Parts
from maquette.training.muon import Muon
from maquette.training.stages import cosine
from maquette.training.state import averaged

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
WATCHED = (50, 200, 400, 600, 800, 950)  # timesteps of the validation error


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    start_from: str = ""  # folder of a base whose text encoder and U-Net learn on; empty for from nothing
    scenes: int = 48_000
    wordings: int = 6  # of each scene, beside its caption
    held_out: int = 256  # scenes of the validation range on which the error is watched
    steps: int = 12_000
    stop: int = 0  # stop after this step and keep the state; 0 for the last
    batch_size: int = 32
    learning_rate: float = 0.014  # of Muon; 0.004 where a trained base learns on
    other_rate: float = 0.04  # AdamW's, of text encoder, vectors and ends, as a share of Muon's
    warmup: int = 150  # steps
    hold: float = 0.6  # share of the steps at full learning rate
    dense: float = 0.2  # weight of the dense tasks
    prompt_drop: float = 0.1
    ema: float = 0.998  # of the averaged weights, every fourth step
    keep_every: int = 200  # steps between states on disk
    channels: tuple[int, ...] = (96, 112, 112, 80)
    seed: int = 0
    device: str = "cpu"
    compile: int = 0  # 1 on a GPU: the blocks; on two cores it takes minutes


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
        """The prediction for latents (B, C, h, w) at timesteps (B,) and tokens (B, CONTEXT), like latents in shape."""
        states = self.text_encoder(tokens).last_hidden_state
        prediction: Tensor = self.unet(latents, timesteps, states).sample
        return prediction


def train(recipe: Recipe) -> TextAndUNet:
    moments = autoencoder.posteriors(recipe.run, recipe.scenes, recipe.device)
    truth = dense.truth(recipe.run, recipe.scenes, recipe.device)
    captions = scenes.captions(recipe.scenes)
    tokenizer = _tokenizer(recipe, captions)
    tokens = worded(recipe, tokenizer, captions).to(recipe.device)  # (scenes, wordings, CONTEXT)
    empty = tokenize(tokenizer, [""]).to(recipe.device)
    torch.manual_seed(recipe.seed)
    model = TextAndUNet(recipe, tokenizer, moments.shape[1] // 2).to(recipe.device)
    if recipe.device != "cpu":
        torch.set_float32_matmul_precision("high")
        model.unet.to(memory_format=torch.channels_last)
    if recipe.start_from:
        start(model, Path(recipe.start_from))
    average = averaged(model, recipe.ema)
    heads, features = dense.Heads(model.unet, truth.channels()).to(recipe.device), dense.read(model.unet)
    optimizer = _optimiser(model, heads, recipe)
    parts: Parts = {"model": model, "heads": heads, "average": average, "optimizer": optimizer}
    if recipe.compile:
        compile_blocks(model.unet)
    process = noise_process(SCHEDULE)
    losses: list[Tensor] = []
    held_out = autoencoder.posteriors(recipe.run, recipe.held_out, recipe.device, dataset.VALIDATION)
    asked = tokenize(tokenizer, scenes.captions(recipe.held_out, dataset.VALIDATION)).to(recipe.device)
    last, every = recipe.stop or recipe.steps, recipe.keep_every
    rate, report = partial(_rate, recipe), partial(_report, average, held_out, asked, losses)
    for step, generator in stage.steps("base", recipe, last, rate, parts, report, every):
        rows = torch.randint(len(tokens), (recipe.batch_size,), generator=generator, device=recipe.device)
        posteriors = moments[rows]
        latents = sample_posterior(
            posteriors, torch.randn(posteriors[:, ::2].shape, generator=generator, device=recipe.device)
        )
        which = torch.randint(tokens.shape[1], (recipe.batch_size,), generator=generator, device=recipe.device)
        drop = torch.rand((recipe.batch_size, 1), generator=generator, device=recipe.device) < recipe.prompt_drop
        words = torch.where(drop, empty, tokens[rows, which].long())
        timesteps = draw_timesteps(recipe.batch_size, generator)
        noise = torch.randn(latents.shape, generator=generator, device=recipe.device)
        noisy = process.noised(latents, noise, timesteps)
        target = process.target(latents, noise, timesteps)
        with torch.autocast(recipe.device, torch.bfloat16):
            prediction = model(noisy, timesteps, words)
            seen = heads.loss(features, truth[rows])
        loss = F.mse_loss(prediction.float(), target)
        stage.descend(optimizer, loss + recipe.dense * seen)
        losses.append(loss.detach())
        if (step + 1) % AVERAGE_EVERY == 0:
            average.update_parameters(model)
    return average.module  # type: ignore[return-value]


def compile_blocks(unet: UNet2DConditionModel) -> None:
    """Compile the residual and the transformer blocks, each for its own shape."""
    torch._dynamo.config.recompile_limit = 64  # the blocks of a kind share their code
    for module in unet.modules():
        if isinstance(module, ResnetBlock2D | BasicTransformerBlock):
            module.compile(dynamic=False)


def start(model: TextAndUNet, folder: Path) -> None:
    """Put a base's weights, which must be of the same shapes and of the run's tokenizer, into `model`."""
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", torch_dtype=torch.float32)
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    model.text_encoder.load_state_dict(text.state_dict())
    model.unet.load_state_dict(unet.state_dict())


def _optimiser(model: TextAndUNet, heads: dense.Heads, recipe: Recipe) -> Muon:
    """Muon for what is a matrix inside the U-Net, AdamW for its ends, its vectors and all else."""
    ends = ("conv_in", "conv_out", "time_embedding")
    named = list(model.unet.named_parameters())
    matrices = [one for name, one in named if one.ndim >= 2 and not name.startswith(ends)]
    others = [one for name, one in named if one.ndim < 2 or name.startswith(ends)]
    others += [*model.text_encoder.parameters(), *heads.parameters()]
    return Muon(matrices, others, recipe.learning_rate, other_rate=recipe.other_rate)


def _rate(recipe: Recipe, step: int) -> float:
    return recipe.learning_rate * cosine(step, recipe.steps, warmup=recipe.warmup, hold=recipe.hold)


def worded(recipe: Recipe, tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """(scenes, 1 + wordings, CONTEXT): each scene's caption and its wordings; made once and kept, with their words."""
    kept = recipe.run / f"words-{len(captions)}-{recipe.wordings}.pt"
    if not kept.exists():
        texts = list(_texts(recipe, captions))
        (recipe.run / "tokenizer" / WORDS).write_text(
            "\n".join(sorted({word for text in texts for word in words_of(text)})) + "\n"
        )
        made = torch.cat([tokenize(tokenizer, texts[at : at + 5000]).short() for at in range(0, len(texts), 5000)])
        with atomic_write(kept) as path:
            torch.save(made.reshape(len(captions), 1 + recipe.wordings, CONTEXT), path)
    tokens: Tensor = torch.load(kept, weights_only=True)
    return tokens


def _texts(recipe: Recipe, captions: list[str]) -> Iterator[str]:
    """Each scene's caption, then its wordings."""
    for seed, caption in enumerate(captions, dataset.TRAIN):
        yield caption
        world = wording.world_of(seed)
        yield from (wording.wording(world, seed, number) for number in range(recipe.wordings))


def _report(average: torch.nn.Module, moments: Tensor, tokens: Tensor, losses: list[Tensor]) -> str:
    """The mean of losses, () each, and the error on held-out moments (N, 2C, h, w) and tokens (N, CONTEXT)."""
    errors = validation(average, moments, tokens)
    values = " ".join(f"{value:.4f}" for value in errors)
    return f"{stage.taken(losses)}, validation {values}, mean {sum(errors) / len(errors):.4f}"


@torch.no_grad()
def validation(model: torch.nn.Module, moments: Tensor, tokens: Tensor) -> list[float]:
    """Mean squared error of v at each of the `WATCHED` timesteps.

    Args:
        moments, tokens: of N scenes, (N, 2C, h, w) and (N, CONTEXT).
    """
    device = moments.device
    latents = moments.float().chunk(2, dim=1)[0]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0)).to(device)
    process = noise_process(SCHEDULE)
    errors = []
    for timestep in WATCHED:
        steps = torch.full((len(latents),), timestep, device=device)
        noisy = process.noised(latents, noise, steps)
        target = process.target(latents, noise, steps)
        parts = []
        for x, times, words, v in zip(*(rows.split(64) for rows in (noisy, steps, tokens, target)), strict=True):
            with torch.autocast(device.type, torch.bfloat16):
                prediction = model(x, times, words)
            parts.append((prediction.float() - v).square().mean(dim=(1, 2, 3)))
        errors.append(torch.cat(parts).mean().item())
    return errors


def _tokenizer(recipe: Recipe, captions: list[str]) -> CLIPTokenizer:
    """The run's own, that of the base it starts from, or learnt from all texts the first time."""
    folder = recipe.run / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        if not recipe.start_from:
            return train_tokenizer(_texts(recipe, captions), folder)
        CLIPTokenizer.from_pretrained(Path(recipe.start_from) / "tokenizer").save_pretrained(folder)
    return CLIPTokenizer.from_pretrained(folder)


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids (N, CONTEXT), padded or truncated."""
    tokens: Tensor = tokenizer(
        captions, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    ).input_ids
    return tokens


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Integers (B,) in [0, 1000): 70 % logit-normal around the middle, where shapes form, the others uniform."""
    middle = torch.sigmoid(torch.randn(count, generator=generator, device=generator.device) - 0.2)
    uniform, choice = torch.rand((2, count), generator=generator, device=generator.device)
    return (torch.where(choice < 0.7, middle, uniform) * 1000).long().clamp(max=999)


if __name__ == "__main__":
    run(train, Recipe, __doc__)
