"""The locked networks that a ControlNet steers, one file a family, behind one protocol."""
