"""How well an image follows a condition, and how near a set of images is to another; one file a metric."""
