"""From noise to images: guidance, inpainting and the sampling loop."""
