"""How well a picture follows a condition, and how near a set of pictures is to another; one file a metric."""
