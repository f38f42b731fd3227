"""From prompts to conditioning: a backbone's text inputs and the encoders that produce them."""
