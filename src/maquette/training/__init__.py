"""Training a ControlNet on a frozen base."""
