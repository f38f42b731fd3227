"""The learning rate where none is set: it follows from the base, or is that of the run to resume."""

import warnings
from dataclasses import replace

from maquette.base import Base
from maquette.errors import MaquetteWarning
from maquette.training.config import CONFIG, TrainingConfig

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
