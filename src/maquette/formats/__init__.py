"""Weights on disk, before any network is built: which format they are in, and what each tensor is called elsewhere."""
