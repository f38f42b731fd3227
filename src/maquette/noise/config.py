"""The noise process that a scheduler's configuration describes."""

from typing import Any

from maquette.noise.ddpm import DDPM
from maquette.noise.flow import FlowMatching
from maquette.noise.process import NoiseProcess


def noise_process(config: dict[str, Any]) -> NoiseProcess:
    """Flow matching for diffusers' FlowMatch schedulers, otherwise DDPM.

    Args:
        config: a base's scheduler_config.json.

    Raises `MaquetteError` for flow matching settings that are not supported.
    """
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FlowMatching(config)
    return DDPM(config)
