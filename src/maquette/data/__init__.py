"""Pairs for training and evaluation: image, condition map, caption."""
