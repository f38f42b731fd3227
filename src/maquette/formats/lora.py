"""LoRA files: low-rank updates of a base's weights, W + α / r · up · down (Hu et al. 2021, equation 3).

| written by | names |
| --- | --- |
| kohya's sd-scripts, web UIs | lora_unet_mid_block_..._to_q.lora_down.weight, .lora_up.weight, .alpha; lora_te_... |
| diffusers with peft | unet.mid_block....to_q.lora_A.weight, .lora_B.weight; text_encoder.... |
| diffusers, older | unet....to_q.lora.down.weight; text_encoder....lora_linear_layer.up.weight |
| diffusers, attention processors | unet....attn1.processor.to_q_lora.down.weight, also without "unet." |
| peft alone | base_model.model.mid_block....to_q.lora_A.weight |

Kohya writes dots as underscores, so names are never taken apart: every weight of the base is spelled in each way, and
the file's are looked up.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette.formats.unet_names import UnknownNameError, attentive_levels, to_original
from maquette.foundation.reading.documents import parse_json
from maquette.foundation.weights import Weights

PARTS = UNET, TEXT, TEXT_2 = "unet", "text_encoder", "text_encoder_2"
"""The parts of a base that a LoRA can change, named as diffusers names their folders."""

_KOHYA = {UNET: ("lora_unet_",), TEXT: ("lora_te_", "lora_te1_"), TEXT_2: ("lora_te2_",)}
_DOTTED = {UNET: ("unet.", "base_model.model.", ""), TEXT: ("text_encoder.",), TEXT_2: ("text_encoder_2.",)}
_PAIR = re.compile(r"(.+?)\.(?:lora_|lora\.|lora_linear_layer\.)(down|up|A|B)(?:\.default)?\.weight")
_PROCESSOR = re.compile(r"(.+)\.processor\.(to_q|to_k|to_v|to_out)_lora\.(down|up)\.weight")
_DOWN, _UP = ("down", "A"), ("up", "B")
METADATA = "lora_adapter_metadata"  # where diffusers keeps peft's settings, such as "unet.lora_alpha"


@dataclass
class _Update:
    """The names in a file of the tensors that update one weight."""

    down: str = ""  # (r, i, ...)
    up: str = ""  # (o, r, ...)
    alpha: str = ""


@dataclass(frozen=True)
class _Target:
    """A weight of the base."""

    part: str
    weight: str
    value: Tensor = field(repr=False)  # (o, i, ...), shared with the network

    @property
    def module(self) -> str:
        return self.weight.removesuffix(".weight")


def add_lora(lora: Weights, parts: Mapping[str, Mapping[str, Tensor]], weight: float) -> None:
    """Add weight · α / r · up · down to the weights of a base, in place, computed in float32.

    Without an α in the file, α = r, as diffusers has it. Everything is checked before anything is changed.

    Args:
        parts: the state dict of each part of the base by its name ("unet", "text_encoder", "text_encoder_2").

    Raises `MaquetteError` for a file that holds no LoRA or another kind of update, and for another base's.
    """
    targets = _spellings(parts)
    found = [(_target(stem, lora, targets), update) for stem, update in _updates(lora).items()]
    settings, scales = _peft_settings(lora), []
    for target, update in found:
        _check_shapes(target, update, lora)
        scales.append(weight * _scale(target, update, lora, lora.shapes[update.down][0], settings))
        _ = lora[update.down], lora[update.up]  # read once before, since numbers that are not finite are refused
    with torch.no_grad():
        for (target, update), scale in zip(found, scales, strict=True):
            down, up = lora[update.down].float(), lora[update.up].float()
            change = (scale * up.flatten(1) @ down.flatten(1)).reshape(target.value.shape)
            target.value.copy_(target.value.float() + change.to(target.value.device))


def _updates(lora: Weights) -> dict[str, _Update]:
    """The updates in a file by the stem of their tensors' names."""
    updates: dict[str, _Update] = {}
    for name in lora:
        stem, role = _parsed(name, lora)
        setattr(updates.setdefault(stem, _Update()), role, name)
    for stem, update in updates.items():
        if not (update.down and update.up):
            raise MaquetteError(f"In {str(lora.source)!r}, {stem!r} lacks half of its update; fetch the file anew.")
    return updates


def _parsed(name: str, lora: Weights) -> tuple[str, str]:
    """Stem and role of a tensor's name."""
    if match := _PROCESSOR.fullmatch(name):
        projection = "to_out.0" if match[2] == "to_out" else match[2]
        return f"{match[1]}.{projection}", match[3]
    if match := _PAIR.fullmatch(name):
        return match[1], "down" if match[2] in _DOWN else "up"
    if name.endswith(".alpha"):
        return name.removesuffix(".alpha").removesuffix(".lora"), "alpha"
    raise MaquetteError(
        f"{str(lora.source)!r} is no LoRA that can be added: it has a tensor {name!r}; give a file of up and down "
        "matrices alone (no DoRA, LoHa or LoKr), as kohya's sd-scripts and diffusers write it."
    )


def _spellings(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, _Target]:
    """Every weight of a base that a LoRA can update, by each stem that files have for it."""
    found: dict[str, _Target] = {}
    for part, state in parts.items():
        levels = attentive_levels(state)
        for weight, value in state.items():
            if not weight.endswith(".weight") or value.dim() < 2:
                continue
            target = _Target(part, weight, value)
            for module in _modules(target, levels):
                found |= {prefix + module.replace(".", "_"): target for prefix in _KOHYA[part]}
                found |= {prefix + module: target for prefix in _DOTTED[part]}
    return found


def _modules(target: _Target, levels: frozenset[int]) -> Iterator[str]:
    """The names of a module: also the original one of a U-Net's, and with or without "text_model." of a CLIP's."""
    yield target.module
    if target.part != UNET:
        plain = target.module.removeprefix("text_model.")
        yield from (plain, f"text_model.{plain}")
        return
    try:
        yield to_original(target.weight, levels).removesuffix(".weight")
    except UnknownNameError:
        return


def _target(stem: str, lora: Weights, targets: Mapping[str, _Target]) -> _Target:
    if stem not in targets:
        raise MaquetteError(
            f"The LoRA in {str(lora.source)!r} is made for another base: it changes {stem!r}, which this one does not "
            "have; load the base it was trained on, or one fine-tuned from it."
        )
    return targets[stem]


def _check_shapes(target: _Target, update: _Update, lora: Weights) -> None:
    """up · down must have the shape of the weight, kernels flattened."""
    up, down, shape = lora.shapes[update.up], lora.shapes[update.down], tuple(target.value.shape)
    fits = len(up) > 1 and len(down) > 1 and math.prod(up[1:]) == down[0] > 0
    if not fits or (up[0], math.prod(down[1:])) != (shape[0], math.prod(shape[1:])):
        raise MaquetteError(
            f"The LoRA in {str(lora.source)!r} is made for another base: it changes {target.module!r} by {up} times "
            f"{down}, which in this one has the shape {shape}; load the base it was trained on."
        )


def _scale(target: _Target, update: _Update, lora: Weights, rank: int, settings: Mapping[str, Any]) -> float:
    """α / r, or α / √r where peft's settings say so."""
    if update.alpha:
        alphas = lora[update.alpha].flatten().tolist()
        return _number(alphas[0] if len(alphas) == 1 else alphas, lora) / rank
    patterns = settings.get(f"{target.part}.alpha_pattern") or {}
    matching = [value for key, value in patterns.items() if f".text_model.{target.module}".endswith(f".{key}")]
    alpha = _number(matching[0] if matching else settings.get(f"{target.part}.lora_alpha", rank), lora)
    return alpha / (math.sqrt(rank) if settings.get(f"{target.part}.use_rslora") else rank)


def _number(alpha: Any, lora: Weights) -> float:
    """An α as it is stored. Raises `MaquetteError` unless it is one finite number."""
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise MaquetteError(f"An alpha in {str(lora.source)!r} is one number, not {alpha!r}; fetch the file anew.")
    return float(alpha)


def _peft_settings(lora: Weights) -> dict[str, Any]:
    """peft's settings by part, such as "unet.lora_alpha", from the file's metadata; empty without any."""
    try:
        settings = parse_json(lora.metadata.get(METADATA, "{}"))
    except ValueError:
        settings = None
    if not isinstance(settings, dict) or not all(
        isinstance(value, dict | None) for name, value in settings.items() if name.endswith("_pattern")
    ):
        raise MaquetteError(f"The settings in the metadata of {str(lora.source)!r} are not JSON; fetch the file anew.")
    return settings
