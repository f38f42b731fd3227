"""Weights in and out: bundled ones, diffusers folders, published ControlNets of any format."""

from maquette.checkpoints.bases import load_base
from maquette.checkpoints.controlnets import load_controlnet
from maquette.checkpoints.original import load_original

__all__ = ["load_base", "load_controlnet", "load_original"]
