"""Images, seeds, files, names: what everything stands on and what knows nothing of diffusion."""
