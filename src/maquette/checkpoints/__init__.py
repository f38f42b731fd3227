"""Weights in and out: bundled ones, diffusers folders, published ControlNets of any format."""

from maquette.checkpoints.bases import load_base
from maquette.checkpoints.load import load_controlnet

__all__ = ["load_base", "load_controlnet"]
