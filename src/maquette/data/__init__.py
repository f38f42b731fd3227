"""Pairs for training and evaluation: picture, condition map, caption."""
