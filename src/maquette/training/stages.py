"""The paper's regimes as stages of a run (v1 §3.5), and the learning rate at every step of it."""

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from maquette.base import Base
from maquette.controlnet.choices import Connect
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError, MaquetteWarning
from maquette.training.config import CONFIG, TrainingConfig
from maquette.training.muon import Muon
from maquette.training.parts import ModelConfig, OptimizerConfig, Unlock


def constant(step: int, steps: int, warmup: int) -> float:
    """Linear warmup to 1 over `warmup` steps, then 1."""
    return min(1.0, (step + 1) / max(warmup, 1))


def cosine(step: int, steps: int, warmup: int, hold: float = 0.0) -> float:
    """Linear warmup to 1, constant until the fraction `hold` of all steps, then cosine decay to 0."""
    progress = max(step / max(steps, 1) - hold, 0) / (1 - hold)
    return constant(step, steps, warmup) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


DECAYS = {"constant": constant, "cosine": cosine}
"""The factor on the peak learning rate at a step of so many, by the setting `decay`."""


@dataclass(frozen=True)
class Stage:
    """Which residuals are used and which part of the base is trained."""

    connect: Connect
    unlocked: Unlock | None

    def __str__(self) -> str:
        text = "the middle block's residual only" if self.connect == "middle" else "all residuals"
        return text + (
            f" and {'the decoder' if self.unlocked == 'decoder' else 'all'} of the base" * bool(self.unlocked)
        )


def stage_of(model: ModelConfig, step: int, converged: int | None) -> Stage:
    """The stage of a step.

    Args:
        converged: the step at which the date of convergence had settled.
    """
    since = converged if model.reconnect == "converged" else model.reconnect
    middle = model.connect == "middle" and (since is None or step < since)
    return Stage("middle" if middle else "all", model.unlock if step >= model.unlock_at else None)


def enter(stage: Stage, base: Base, net: ControlNet) -> None:
    """Require gradients for exactly the parameters that the stage trains."""
    net.config = replace(net.config, connect=stage.connect)
    net.requires_grad_(True)
    if stage.connect == "middle":
        net.zero_convs[:-1].requires_grad_(False)
    base.backbone.network.requires_grad_(False)
    if stage.unlocked:
        for parameter in unlocked_parameters(base, stage.unlocked):
            parameter.requires_grad_(True)


def unlocked_parameters(base: Base, unlock: Unlock) -> list[nn.Parameter]:
    """The parameters (any shape) of the decoder, as in the published code, or of the whole backbone."""
    return base.backbone.decoder_parameters() if unlock == "decoder" else list(base.backbone.network.parameters())


def make_optimizer(
    settings: OptimizerConfig, unlock: Unlock | None, base: Base, net: ControlNet
) -> torch.optim.Optimizer:
    """The optimizer of the parameters of all stages; parameters without gradients are skipped and take no memory.

    With AdamW the second parameter group, if any, is the base's; with Muon it is what AdamW moves.
    """
    assert settings.learning_rate is not None, "follows from the base before the first step"
    groups: list[dict[str, object]] = [{"params": list(net.parameters())}]
    if unlock:
        groups.append({"params": unlocked_parameters(base, unlock)})
    if settings.name == "muon":
        return _muon(settings.learning_rate, settings.weight_decay, net)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    eight_bit: torch.optim.Optimizer = _eight_bit()(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    return eight_bit


MUON_SHARE = 0.04
"""The learning rate of what AdamW moves beside Muon, as a share of Muon's own, which is usually 0.02."""

ENDS = {"conv_in", "conv_out", "pos_embed"}  # first and last layers of copies, which are no matrices between features


def _muon(learning_rate: float, weight_decay: float, net: ControlNet) -> Muon:
    """Muon over the copy's matrices, and AdamW at the learning rate over everything else."""
    named = net.trainable_copy.named_parameters()
    matrices = [weight for name, weight in named if weight.ndim >= 2 and not ENDS & set(name.split("."))]
    chosen = set(map(id, matrices))
    others = [weight for weight in net.parameters() if id(weight) not in chosen]
    return Muon(matrices, others, learning_rate / MUON_SHARE, other_rate=MUON_SHARE, weight_decay=weight_decay)


def _eight_bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MaquetteError(
            "optimizer.name = \"adamw8bit\" needs bitsandbytes: pip install 'maquette[8bit]'."
        ) from error
    return AdamW8bit


def set_learning_rates(optimizer: torch.optim.Optimizer, settings: OptimizerConfig, step: int, steps: int) -> None:
    """Set the learning rates of the ControlNet and the base for `step` of `steps`."""
    factor = DECAYS[settings.decay](step, steps, settings.warmup)
    assert settings.learning_rate is not None, "follows from the base before the first step"
    muon = settings.learning_rate / MUON_SHARE
    peaks = (muon, muon) if settings.name == "muon" else (settings.learning_rate, settings.unlock_learning_rate)
    for group, peak in zip(optimizer.param_groups, peaks, strict=False):
        group["lr"] = peak * factor


WIDE = 320
"""Channels of the first block from which on a base counts as wide: Stable Diffusion has 320, the diorama 96."""

WIDE_RATE = 1e-4  # warn above this learning rate on a wide base


def usual_learning_rate(channels: int) -> float:
    """The learning rate for a base by the channels of its first block: the published 1e-5 for wide ones, else 1e-3.

    At 1e-5 the narrow diorama would take a day.
    """
    return 1e-5 if channels >= WIDE else 1e-3


def with_rate_of_run(config: TrainingConfig) -> TrainingConfig:
    """A configuration to resume with: a learning rate that is left out is that of the run."""
    if not config.resume or config.optimizer.learning_rate is not None:
        return config
    kept = TrainingConfig.load(config.output / CONFIG).optimizer.learning_rate
    return replace(config, optimizer=replace(config.optimizer, learning_rate=kept))


def with_rate_of_base(config: TrainingConfig, base: Base) -> tuple[TrainingConfig, str]:
    """The configuration with a learning rate, which follows from the base if it is left out; and why, in a sentence."""
    rate, channels = config.optimizer.learning_rate, base.backbone.slots[0].channels
    if rate is not None:
        return config, f"learning rate {rate:g}, {'that of the run' if config.resume else 'as set'}"
    rate = usual_learning_rate(channels)
    width = f"{channels} channels, {'at least' if channels >= WIDE else 'less than'} Stable Diffusion's {WIDE}"
    resolved = replace(config, optimizer=replace(config.optimizer, learning_rate=rate))
    return resolved, f"learning rate {rate:g}: the default for a base of {width}"


def warn_of_rate(rate: float | None, base: Base) -> None:
    """Warn about a learning rate that was set and is too high for a wide base."""
    if rate is not None and rate > WIDE_RATE and base.backbone.slots[0].channels >= WIDE:
        warnings.warn(
            f"A learning rate of {rate:g} is made for narrow bases; the published ControlNets were trained at 1e-5.",
            MaquetteWarning,
            stacklevel=4,
        )
