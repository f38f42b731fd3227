"""Protocols that turn a base or a ControlNet into numbers and a page of images."""
