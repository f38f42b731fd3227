"""Which noise process the configuration of a scheduler describes."""

from typing import Any

from maquette.noise.ddpm import DDPM
from maquette.noise.flow import FlowMatching
from maquette.noise.process import NoiseProcess


def noise_process(config: dict[str, Any]) -> NoiseProcess:
    """Flow matching for diffusers' FlowMatch schedulers, else DDPM.

    Args:
        config: a base's scheduler_config.json.

    Raises `MaquetteError` where it asks for what sampling of flows does not do.
    """
    if str(config.get("_class_name", "")).startswith("FlowMatch"):
        return FlowMatching(config)
    return DDPM(config)
