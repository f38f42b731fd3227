"""What the stages that make the embedded base have in common: the loop of `baselines.steps`, by their short names."""

from maquette.baselines.steps import descend, steps, taken

__all__ = ["descend", "steps", "taken"]
