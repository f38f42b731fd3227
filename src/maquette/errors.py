"""Errors that a user can cause: one sentence with the rule, the value given and the way out."""


class MaquetteError(ValueError):
    """Bad input or a bad setting; its message is meant to be read by a user."""
