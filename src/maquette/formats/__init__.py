"""Weights on disk, before any network is made of them: whose they are, and what each tensor is called elsewhere."""
