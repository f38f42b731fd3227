"""Detectors, one file a family; the registry imports each when it is first used."""
