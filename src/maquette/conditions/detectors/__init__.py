"""Detectors, one file per family; the registry imports each on first use."""
