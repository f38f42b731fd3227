"""What noise does to latents: how it is put on in training, and how it is taken off in sampling."""
