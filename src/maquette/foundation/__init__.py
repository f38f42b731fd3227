"""Images, seeds, files, settings and registries: the basis of all else, independent of diffusion."""
