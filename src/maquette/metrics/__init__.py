"""How well an image follows a condition, and how close one set of images is to another; one file per metric."""
