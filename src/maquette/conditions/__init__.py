"""Detectors, which turn an image into a condition map (one file per family), and the rendering of exact maps."""
