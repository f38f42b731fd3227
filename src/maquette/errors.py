"""Errors and warnings for users: one sentence with the rule, the value given and the way out."""


class MaquetteError(ValueError):
    """Bad input or a bad setting; its message is meant to be read by a user."""

    field: str | None = None  # of a request, that it is about: "steps", "layers.0.weight"


class MaquetteWarning(UserWarning):
    """Something was not done quite as asked; its message says what."""


def shortened(text: str, most: int = 200) -> str:
    """A text of at most about `most` characters, for a message: a longer one without its middle."""
    return text if len(text) <= most else f"{text[: most // 2].rstrip()} … {text[-most // 2 :].lstrip()}"
