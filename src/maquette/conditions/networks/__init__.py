"""Networks that see: their modules named as in the published weights, and how they come to those."""
