"""Noise processes: adding noise in training and removing it in sampling."""
