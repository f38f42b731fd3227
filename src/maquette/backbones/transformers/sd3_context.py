"""Control in context on Stable Diffusion 3: a condition's tokens join the sequence (OminiControl, Tan et al. 2024).

A condition map is embedded as an image is, by the base's own patch embedding and at the same positions, at time 0. Its
tokens go through the base's own blocks, whose attention low-rank matrices change for them alone, and those of image
and text attend to them. As in OminiControl2 and EasyControl (2025) the condition's tokens attend to one another alone,
so that their keys and values are computed once for a picture, not at every step.
"""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers import SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from maquette.backbones.low_rank import LowRank
from maquette.backbones.transformers.blocks import run
from maquette.backbones.transformers.packing import tokens_of, unpatched
from maquette.backbones.transformers.sd3_tokens import embed, grid_of
from maquette.text.conditioning import Conditioning

OPENING = 20.0
"""Factor on a gate: Adam moves it by about the learning rate at each step, and it opens in a hundred steps or less."""


class ContextAttention(nn.Module):
    """What is trained of one block's attention; layers are named as those that they change.

    Args:
        whole: whether the condition's tokens go on after it; the last block keeps their keys and values alone.
    """

    def __init__(self, attention: Attention, rank: int, whole: bool) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.zeros(attention.heads))
        self.to_k = LowRank.of(attention.to_k, rank)
        self.to_v = LowRank.of(attention.to_v, rank)
        if whole:
            self.to_q = LowRank.of(attention.to_q, rank)
            self.to_out = nn.ModuleList([LowRank.of(attention.to_out[0], rank)])


class ContextBlock(nn.Module):
    """What is trained of one block: its attention."""

    def __init__(self, block: JointTransformerBlock, rank: int) -> None:
        super().__init__()
        self.attn = ContextAttention(block.attn, rank, whole=not block.context_pre_only)


class SD3Context(nn.Module):
    """A transformer that reads a condition beside image and text; only what is trained is its own.

    A gate per head moves attention, from A₁ over image and text to A₂ over the condition too, by g: A₁ + g (A₂ − A₁).
    It is 0 at first, which leaves the base's output bitwise as it is; at 1 it is OminiControl's.

    Args:
        network: of the base, which stays the base's.
        downscale: pixels per latent cell, along a side.
    """

    gradient_checkpointing = False  # set by training
    _gradient_checkpointing_func: Any

    def __init__(self, network: SD3Transformer2DModel, downscale: int, rank: int) -> None:
        super().__init__()
        self.borrowed = (network,)  # in a tuple, so that its weights are not this module's
        self.downscale, self.rank = downscale, rank
        self.transformer_blocks = nn.ModuleList(ContextBlock(block, rank) for block in network.transformer_blocks)
        self.channels: int = 2 * network.inner_dim * len(self.transformer_blocks)  # of what is kept of a condition

    def initialise(self, generator: torch.Generator) -> None:
        """Gates and changes at zero."""
        for part in self.modules():
            if isinstance(part, LowRank):
                part.initialise(generator)
            elif isinstance(part, ContextAttention):
                nn.init.zeros_(part.gate)

    def _attentions(self) -> list[ContextAttention]:
        return [cast(ContextBlock, block).attn for block in self.transformer_blocks]

    def keep(self, latents: Tensor, embedded: Tensor) -> Tensor:
        """The keys and values of a condition's latents (B, C, h, w) in every block, (B, 2 N D, h / p, w / p).

        Args:
            embedded: (B, D, h / p, w / p), added to the patch embedding.
        """
        (network,) = self.borrowed
        like = next(network.parameters())
        grid = grid_of(network.pos_embed, latents, self.downscale)
        y = network.pos_embed(latents.to(like.dtype)) + tokens_of(embedded)
        no_text = like.new_zeros(len(latents), network.config.pooled_projection_dim)
        time = network.time_text_embed(like.new_zeros(len(latents)), no_text)
        kept: list[Tensor] = []
        for block, own in zip(network.transformer_blocks, self._attentions(), strict=True):
            y, *found = run(self, _Alone(block, own), y, time)
            kept += found
        return torch.cat(kept, dim=2).mT.unflatten(2, grid)

    def forward(self, latents: Tensor, timestep: Tensor | int, text: Tensor | Conditioning, kept: Tensor) -> Tensor:
        """The prediction for latents, both (B, C, h, w).

        Args:
            kept: (B or 1, 2 N D, h / p, w / p), from `keep`.
        """
        (network,) = self.borrowed
        state = embed(network, network.pos_embed, self.downscale, latents, timestep, Conditioning.of(text))
        x, context = state.x, state.context
        assert context is not None, "a base reads the prompt"
        memories = tokens_of(kept).expand(len(x), -1, -1).chunk(2 * len(self.transformer_blocks), dim=2)
        parts = zip(network.transformer_blocks, self._attentions(), memories[::2], memories[1::2], strict=True)
        for block, own, key, value in parts:
            context, x = run(self, _reading(block, Reading(own.gate, key, value)), x, context, state.time)
        return unpatched(network.proj_out(network.norm_out(x, state.time)), state.grid, network.pos_embed.patch_size)


@dataclass(frozen=True)
class _Alone:
    """A block for tokens of a condition, which have no text: the image's half of it, with changed attention."""

    block: JointTransformerBlock
    own: ContextAttention

    def __call__(self, y: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens (B, L, D) after it, and their keys and values, (B, L, D) each; in the last block as they came."""
        block, own, attention = self.block, self.own, self.block.attn
        normed, gate, shift, scale, gate_ff, *dual = block.norm1(y, emb=time)
        key = _heads(attention, attention.to_k(normed) + own.to_k(normed), attention.norm_k)
        value = _heads(attention, attention.to_v(normed) + own.to_v(normed))
        kept = _merged(key), _merged(value)
        if block.context_pre_only:
            return y, *kept
        query = _heads(attention, attention.to_q(normed) + own.to_q(normed), attention.norm_q)
        read = _merged(F.scaled_dot_product_attention(query, key, value))
        y = y + gate[:, None] * (attention.to_out[0](read) + own.to_out[0](read))
        if dual:
            y = y + dual[1][:, None] * block.attn2(hidden_states=dual[0])
        changed = block.ff(block.norm2(y) * (1 + scale[:, None]) + shift[:, None])
        return y + gate_ff[:, None] * changed, *kept


def _reading(block: JointTransformerBlock, reading: "Reading") -> Any:
    """A block whose attention is another, with the weights of this one, which is left as it is."""
    changed, attention = copy.copy(block), copy.copy(block.attn)
    attention.processor = reading
    changed._modules = {**block._modules, "attn": attention}
    return changed


@dataclass(frozen=True)
class Reading:
    """diffusers' joint attention of image and text, moved by a gate towards one that reads a condition too."""

    gate: Tensor  # (heads,)
    key: Tensor  # (B, L, D) the condition's
    value: Tensor  # (B, L, D)

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The image's tokens (B, L, D) and the text's (B, T, D), by diffusers' names."""
        image, text = hidden_states, encoder_hidden_states
        query = _joined(attn, attn.to_q(image), attn.norm_q, attn.add_q_proj(text), attn.norm_added_q)
        key = _joined(attn, attn.to_k(image), attn.norm_k, attn.add_k_proj(text), attn.norm_added_k)
        value = _joined(attn, attn.to_v(image), None, attn.add_v_proj(text), None)
        more_key, more_value = (_heads(attn, part.to(value.dtype)) for part in (self.key, self.value))
        plain = F.scaled_dot_product_attention(query, key, value)
        both = F.scaled_dot_product_attention(
            query, torch.cat([key, more_key], dim=2), torch.cat([value, more_value], dim=2)
        )
        gate = (OPENING * self.gate)[:, None, None].to(plain.dtype)
        read = _merged(plain + gate * (both - plain))
        x, context = read[:, : image.shape[1]], read[:, image.shape[1] :]
        return attn.to_out[0](x), context if attn.context_pre_only else attn.to_add_out(context)


def _joined(
    attn: Attention, image: Tensor, image_norm: nn.Module | None, text: Tensor, text_norm: nn.Module | None
) -> Tensor:
    """The heads of image (B, L, D) and text (B, T, D), (B, heads, L + T, d)."""
    return torch.cat([_heads(attn, image, image_norm), _heads(attn, text, text_norm)], dim=2)


def _heads(attn: Attention, states: Tensor, norm: nn.Module | None = None) -> Tensor:
    """(B, L, D) to (B, heads, L, d), normalised by head."""
    apart = states.unflatten(2, (attn.heads, -1)).transpose(1, 2)
    return apart if norm is None else norm(apart)


def _merged(states: Tensor) -> Tensor:
    """(B, heads, L, d) to (B, L, D)."""
    return states.transpose(1, 2).flatten(2)
