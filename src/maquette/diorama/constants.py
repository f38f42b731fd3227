"""Constants of the diorama that need no rendering to know."""

CONDITIONS = ("canny", "depth", "normal", "pose", "scribble", "segmentation")
"""Conditions that scenes have maps of; `data.diorama.CONDITIONS` defines each."""

DETECTED = ("canny", "scribble")
"""Those that are detected in the images, by `data.random_detectors.DRAWS`; the others are exact."""
