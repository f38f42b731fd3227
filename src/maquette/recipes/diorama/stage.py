"""What the stages that make the embedded base have in common: the loop of `training.steps`, by their short names."""

from maquette.training.steps import descend, steps, taken

__all__ = ["descend", "steps", "taken"]
