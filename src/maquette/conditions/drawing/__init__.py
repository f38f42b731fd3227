"""Rendering of maps from key points, classes, surfaces and strokes."""
