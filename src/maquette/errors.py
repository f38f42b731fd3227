"""Errors and warnings for users: one sentence with the rule, the value given and the way out."""


class MaquetteError(ValueError):
    """Bad input or a bad setting; its message is meant to be read by a user."""


class MaquetteWarning(UserWarning):
    """Something was not done quite as asked; its message says what."""
