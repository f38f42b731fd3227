"""Attention without gradients: the faster of two ways for each shape, and the keys and values of a text only once."""

import threading
from math import e, log2, prod
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from maquette.arithmetic.halves import twice
from maquette.arithmetic.processor import has_tiles

BLOCK = 2**21
"""Scores that a thread computes at once, 4 MiB of them."""
REGISTER = 16  # numbers that are added up at once
LONG = 1024  # keys, from which on a pass less over the scores is worth a column more of values
LARGEST = 100.0
"""The exponent up to which powers of two, and sums of thousands of them, stay far inside bfloat16's range."""


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(Q Kᵀ / √d) V, for queries (B, H, N, d), keys and values (B, H, M, d) to (B, H, N, d).

    In bfloat16 on a CPU without tiles block by block, everywhere else by the fused kernel, and where gradients are
    wanted.
    """
    in_place = query.device.type == "cpu" and query.dtype == torch.bfloat16 and not query.requires_grad
    if not in_place or has_tiles():
        return F.scaled_dot_product_attention(query, key, value)
    q, k, v = (states.flatten(0, 1) for states in (query, key, value))
    return _in_blocks(q, k, v).unflatten(0, query.shape[:2])


def _in_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same for queries (R, N, d), keys and values (R, M, d), one head to a row, with few scores at a time."""
    count, length, width = query.shape
    rows = min(length, max(1, BLOCK // key.shape[1]))
    heads = min(count, torch.get_num_threads() * max(1, BLOCK // (rows * key.shape[1])))
    powers = _suit_powers(query, key)
    scale, value = (width**-0.5 * log2(e), _with_ones(value)) if powers else (width**-0.5, value)
    result = torch.empty_like(query)
    for first in range(0, count, heads):
        some = slice(first, first + heads)
        for start in range(0, length, rows):
            part, place = query[some, start : start + rows], result[some, start : start + rows]
            scores = torch.baddbmm(part.new_empty(()), part, key[some].mT, beta=0, alpha=scale)
            if powers:
                sums = scores.exp2_() @ value[some]
                torch.div(sums[..., :width], sums[..., width, None], out=place)
            else:
                torch.bmm(scores.softmax(dim=2), value[some], out=place)
    return result


def _suit_powers(query: Tensor, key: Tensor) -> bool:
    """Whether the softmax may be powers of two of the scores, whose largest is not taken off, over their sum.

    That sum comes from a column of ones beside the values, where a register has room for one, which is for free. The
    scores must be small, as the product of the longest query (R, N, d) and the longest key (R, M, d) tells.
    """
    width = query.shape[2]
    if key.shape[1] < LONG or width % REGISTER == 0:
        return False
    longest = [float(torch.linalg.vector_norm(states, dim=2, dtype=torch.float32).max()) for states in (query, key)]
    return prod(longest) * width**-0.5 * log2(e) <= LARGEST


def _with_ones(value: Tensor) -> Tensor:
    """Values (R, M, d) and a column of ones, filled up with further ones to whole registers."""
    return F.pad(value, (0, -value.shape[2] % REGISTER), value=1.0)


class _Kept(threading.local):
    """A text, held so that no other takes its memory, with its version; and its keys and values."""

    text: tuple[Tensor, int] | None = None
    states: tuple[Tensor, Tensor] | None = None


class OnceForText:
    """A processor of one `Attention` for as long as its weights stay the same.

    Takes hidden states (B, N, D) or (B, D, h, w) and optional text (B, M, T); returns what has the shape of the first.
    Keys and values of the text are kept until another text comes, for each thread by itself. What the attention of
    Stable Diffusion has not, such as masks, is left to diffusers' processor.
    """

    def __init__(self) -> None:
        self.fallback = AttnProcessor2_0()
        self.kept = _Kept()

    def __call__(
        self,
        module: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,  # these two by name, since diffusers asks which names there are
        temb: Tensor | None = None,
        **more: Any,
    ) -> Tensor:
        text = encoder_hidden_states
        others = (attention_mask, temb, *more.values())
        if _has_more(module) or any(value is not None for value in others):
            attended: Tensor = self.fallback(module, hidden_states, text, attention_mask, temb, **more)
            return attended
        if text is None and twice(hidden_states):
            return torch.cat([self(module, hidden_states[: len(hidden_states) // 2])] * 2)
        x = hidden_states.flatten(2).mT if hidden_states.ndim == 4 else hidden_states
        if module.group_norm is not None:
            x = module.group_norm(x.mT).mT
        query = _heads(module, module.to_q(x))
        key, value = self._projected(module, x) if text is None else self._of_text(module, text)
        x = module.to_out[0](attend(query, key, value).transpose(1, 2).flatten(2))
        x = x.mT.unflatten(2, hidden_states.shape[2:]) if hidden_states.ndim == 4 else x
        return (x + hidden_states if module.residual_connection else x) / module.rescale_output_factor

    def _of_text(self, module: Attention, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, M, d) of a text (B, M, T): those kept, if it is the last one, unchanged."""
        kept = self.kept
        if kept.states is None or kept.text is None or not _same(*kept.text, text):
            kept.text, kept.states = (text, _version(text)), self._projected(module, text)
        return kept.states

    def _projected(self, module: Attention, states: Tensor) -> tuple[Tensor, Tensor]:
        return _heads(module, module.to_k(states)), _heads(module, module.to_v(states))


def _has_more(module: Attention) -> bool:
    """Whether an attention has parts that those of Stable Diffusion lack."""
    return any(part is not None for part in (module.spatial_norm, module.norm_cross, module.norm_q, module.norm_k))


def _heads(module: Attention, states: Tensor) -> Tensor:
    """(B, N, H d) to (B, H, N, d)."""
    return states.unflatten(2, (module.heads, -1)).transpose(1, 2)


def _same(kept: Tensor, version: int, other: Tensor) -> bool:
    """Whether two tensors of any shape are the same memory, not written to since it had this version."""
    where, wheres = ((value.data_ptr(), value.shape, value.stride(), value.dtype) for value in (kept, other))
    return where == wheres and version == _version(other)


def _version(value: Tensor) -> int:
    """How often a tensor of any shape was written to; those made in inference mode do not count."""
    return 0 if value.is_inference() else value._version
