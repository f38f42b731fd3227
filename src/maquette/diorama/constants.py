"""What is known of the embedded world without rendering any of it."""

CONDITIONS = ("canny", "depth", "normal", "pose", "scribble", "segmentation")
"""Conditions that its scenes have maps of (`data.diorama.CONDITIONS` says how each is made)."""
