"""A procedural world of small rendered scenes with exact ground truth."""

from maquette.diorama.people import KEYPOINTS
from maquette.diorama.scene import SIZE, Scene, scene
from maquette.diorama.things import CLASSES, COLOUR_NAMES

__all__ = ["CLASSES", "COLOUR_NAMES", "KEYPOINTS", "SIZE", "Scene", "scene"]
