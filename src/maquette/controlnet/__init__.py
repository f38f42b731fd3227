"""ControlNet itself: zero layers, the condition encoder, the trainable copy and its composition."""
