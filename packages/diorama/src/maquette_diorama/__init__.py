"""Weights of the model that maquette runs with no download: a base, its ControlNets, and the perception model."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Holds base/ and controlnets/NAME/ in diffusers' format, and perception.safetensors."""
