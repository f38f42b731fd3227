"""Weights of maquette's second bundled model, in the shape of Stable Diffusion 3: a base and its ControlNets."""

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
"""Holds base/ and controlnets/NAME/ in diffusers' format."""
