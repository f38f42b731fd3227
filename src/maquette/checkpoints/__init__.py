"""Weights in and out: bundled ones, diffusers folders."""

from maquette.checkpoints.load import load_controlnet

__all__ = ["load_controlnet"]
