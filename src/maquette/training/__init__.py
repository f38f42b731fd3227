"""From a base and pairs to a trained ControlNet."""
