"""The noise process that a scheduler's configuration describes."""

from typing import Any

from maquette.noise.ddpm import DDPM
from maquette.noise.flow import FlowMatching
from maquette.noise.process import NoiseProcess


def noise_process(config: dict[str, Any], whole_steps: bool | None = None) -> NoiseProcess:
    """Flow matching for diffusers' FlowMatch schedulers, otherwise DDPM.

    Args:
        config: a base's scheduler_config.json.
        whole_steps: of `FlowMatching`; None for what its shift tells.

    Raises `MaquetteError` for flow matching settings that are not supported.
    """
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FlowMatching(config, whole_steps=whole_steps)
    return DDPM(config)
