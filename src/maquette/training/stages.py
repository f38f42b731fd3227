"""The paper's regimes, one after another in a run: middle block only, all blocks, the base unlocked (v1 §3.5)."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from maquette.base import Base
from maquette.controlnet.choices import Connect
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.training import schedule
from maquette.training.parts import ModelConfig, OptimizerConfig, Unlock


@dataclass(frozen=True)
class Stage:
    """Which residuals are used and what of the base trains."""

    connect: Connect
    unlocked: Unlock | None

    def __str__(self) -> str:
        words = "the middle block's residual alone" if self.connect == "middle" else "all residuals"
        return words + (
            f", {'the decoder' if self.unlocked == 'decoder' else 'all'} of the base too" * bool(self.unlocked)
        )


def stage_of(model: ModelConfig, done: int, hold: int | None) -> Stage:
    """The stage after so many steps.

    Args:
        hold: the step after which the condition was seen to have taken hold.
    """
    since = hold if model.reconnect == "converged" else model.reconnect
    middle = model.connect == "middle" and (since is None or done < since)
    return Stage("middle" if middle else "all", model.unlock if done >= model.unlock_at else None)


def enter(stage: Stage, base: Base, net: ControlNet) -> None:
    """Let exactly what the stage trains require gradients."""
    net.config = replace(net.config, connect=stage.connect)
    net.requires_grad_(True)
    if stage.connect == "middle":
        net.zero_convs[:-1].requires_grad_(False)
    base.backbone.network.requires_grad_(False)
    if stage.unlocked:
        for parameter in unlocked_parameters(base, stage.unlocked):
            parameter.requires_grad_(True)


def unlocked_parameters(base: Base, unlock: Unlock) -> list[nn.Parameter]:
    """The decoder's, which the published code trains, or all of the backbone's."""
    return base.backbone.decoder_parameters() if unlock == "decoder" else list(base.backbone.network.parameters())


def make_optimiser(
    settings: OptimizerConfig, unlock: Unlock | None, base: Base, net: ControlNet
) -> torch.optim.Optimizer:
    """AdamW over all that any stage trains; what has no gradient yet is passed over and takes no memory.

    The second group, where there is one, is the base's.
    """
    groups: list[dict[str, object]] = [{"params": list(net.parameters())}]
    if unlock:
        groups.append({"params": unlocked_parameters(base, unlock)})
    if settings.name == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    eight_bit: torch.optim.Optimizer = _eight_bit()(
        groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    return eight_bit


def _eight_bit() -> Any:
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError as error:
        raise MaquetteError("optimizer = \"adamw8bit\" needs bitsandbytes: pip install 'maquette[8bit]'.") from error
    return AdamW8bit


def set_rates(optimizer: torch.optim.Optimizer, settings: OptimizerConfig, done: int, steps: int) -> None:
    """The learning rate of each group, the ControlNet's and the base's, after `done` of so many steps."""
    share = getattr(schedule, settings.decay)(done, steps, settings.warmup)
    for group, peak in zip(
        optimizer.param_groups, (settings.learning_rate, settings.unlock_learning_rate), strict=False
    ):
        group["lr"] = peak * share
