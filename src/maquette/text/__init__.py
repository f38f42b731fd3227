"""Prompts to conditioning: what a backbone is told of the prompt, and the text encoders that tell it."""
