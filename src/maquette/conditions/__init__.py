"""Detectors: an image in, a condition map out, one file a family; and how exact maps are drawn."""
