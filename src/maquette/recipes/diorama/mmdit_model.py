"""The networks of a base in the shape of Stable Diffusion 3: two text encoders and an MMDiT, and their settings."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from maquette.recipes.diorama import dense
from maquette.recipes.diorama.tokens import CONTEXT

SIDE = 16  # of the latents of a diorama
WIDTHS = (96, 128)  # of the states and of the projection of each text encoder
JOINT = 256  # channels of the context; the encoders' states, joined, fill the first 224
BLANK = 256  # zero tokens that the pipeline appends to the context unless asked for fewer


@dataclass(frozen=True)
class Recipe:
    run: Path = Path("runs/diorama")
    scenes: int = 48_000
    wordings: int = 6  # of each scene, beside its caption
    held_out: int = 256  # scenes of the validation range on which the error is watched
    learn: int = 1  # 0 to save and draw only what was trained
    steps: int = 12_000
    stop: int = 0  # stop after this step and keep the state; 0 for the last
    batch_size: int = 512
    learning_rate: float = 0.02  # of Muon
    other_rate: float = 0.04  # AdamW's, of text encoders, vectors and ends, as a share of Muon's
    warmup: int = 200  # steps
    hold: float = 0.6  # share of the steps at full learning rate
    dense: float = 0.2  # weight of the dense tasks
    prompt_drop: float = 0.1
    blank_every: int = 8  # steps; at each such one the context ends with `BLANK` zero tokens
    ema: float = 0.998  # of the averaged weights, every fourth step
    layers: int = 8
    heads: int = 4
    head_size: int = 56
    text_layers: int = 4  # of each text encoder; the last one serves the projection alone
    shift: float = 1.5  # of the sampling σ towards noise
    pictures: int = 16  # on the sheet
    seed: int = 0
    device: str = "cpu"
    compile: int = 0  # 1 on a GPU: the blocks


class TextAndMMDiT(nn.Module):
    """The three networks that learn together, so that one average and one optimizer serve all."""

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer, latent_channels: int) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = (_text_encoder(recipe, tokenizer, width) for width in WIDTHS)
        self.transformer = SD3Transformer2DModel(
            sample_size=SIDE,
            patch_size=1,
            in_channels=latent_channels,
            out_channels=latent_channels,
            num_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            attention_head_dim=recipe.head_size,
            joint_attention_dim=JOINT,
            caption_projection_dim=recipe.heads * recipe.head_size,
            pooled_projection_dim=sum(WIDTHS),
            pos_embed_max_size=2 * SIDE,
            qk_norm="rms_norm",
        )
        start_at_zero(self.transformer)

    def encode(self, tokens: Tensor, blank: int = 0) -> tuple[Tensor, Tensor]:
        """Context (B, CONTEXT + blank, JOINT), and pooled text (B, sum of widths), of tokens (B, CONTEXT)."""
        encoders = (self.text_encoder, self.text_encoder_2)
        texts = [encoder(tokens, output_hidden_states=True) for encoder in encoders]
        states = torch.cat([text.hidden_states[-2] for text in texts], dim=-1)
        pooled = torch.cat([text.text_embeds for text in texts], dim=-1)
        return F.pad(states, (0, JOINT - states.shape[-1], 0, blank)), pooled

    def forward(self, latents: Tensor, times: Tensor, tokens: Tensor, blank: int = 0) -> Tensor:
        """The velocity, like latents (B, C, h, w), at times (B,), which are 1000 σ, for tokens (B, CONTEXT)."""
        context, pooled = self.encode(tokens, blank)
        velocity: Tensor = self.transformer(latents, context, pooled, times, return_dict=False)[0]
        return velocity


def _text_encoder(recipe: Recipe, tokenizer: CLIPTokenizer, width: int) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            projection_dim=width,
            num_hidden_layers=recipe.text_layers,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


@torch.no_grad()
def start_at_zero(transformer: SD3Transformer2DModel) -> None:
    """Zero every modulation, so that each block starts as the identity (adaLN-Zero), and the last layer."""
    modulations = [module for name, module in transformer.named_modules() if ".norm1" in name and "linear" in name]
    for module in (*modulations, transformer.norm_out.linear, transformer.proj_out):
        nn.init.zeros_(module.weight)
        nn.init.zeros_(module.bias)


class Head(dense.Heads):
    """One small head, which reads the image tokens of the middle block."""

    def __init__(self, transformer: SD3Transformer2DModel, channels: list[int]) -> None:
        nn.Module.__init__(self)
        self.channels = channels
        read, write = nn.Conv2d(transformer.inner_dim, dense.HIDDEN, 1), nn.Conv2d(dense.HIDDEN, sum(channels), 1)
        self.heads = nn.ModuleList([nn.Sequential(read, nn.SiLU(), write)])


def read(transformer: SD3Transformer2DModel) -> list[Tensor]:
    """A list that holds, after each forward pass, the middle block's image tokens (B, C, SIDE, SIDE)."""
    features = [torch.empty(0)]

    def hook(_: nn.Module, __: object, output: tuple[Tensor, Tensor]) -> None:
        """Store the second output, the image tokens (B, N, C) of N = SIDE² cells; the first is the context."""
        features[0] = output[1].mT.unflatten(2, (SIDE, SIDE))

    blocks = transformer.transformer_blocks
    blocks[(len(blocks) - 1) // 2].register_forward_hook(hook)
    return features
