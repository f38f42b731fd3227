"""Fields of a request: their names, types and pictures are checked, and errors say which field they are about."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from maquette.errors import MaquetteError, shortened
from maquette.foundation.reading.rules import Rule, typed
from maquette.foundation.registry import unknown
from maquette.studio.pictures import Picture, Resolve
from maquette.studio.requests.limits import Limits

NUMBER = typed(float)


@contextmanager
def about(name: str) -> Iterator[None]:
    """Says which field of a request the errors inside are about. Raises `MaquetteError`."""
    try:
        yield
    except MaquetteError as error:
        error.field = error.field or name
        raise


@contextmanager
def within(name: str) -> Iterator[None]:
    """Says in which part of a request the field is that errors inside are about. Raises `MaquetteError`."""
    try:
        yield
    except MaquetteError as error:
        error.field = f"{name}.{error.field}" if error.field else name
        raise


def checked(values: Any, rules: Mapping[str, Rule], what: str, needed: Sequence[str] = ()) -> Mapping[str, Any]:
    """Values whose names and types are known. Raises `MaquetteError` for others."""
    if not isinstance(values, Mapping):
        raise MaquetteError(f"{what[0].upper()}{what[1:]} is an object with fields, not {shortened(repr(values), 80)}.")
    for name in values:
        if name not in rules:
            with about(shortened(str(name), 40)):
                raise MaquetteError(unknown(f"field of {what}", name, list(rules)))
    for name in needed:
        if values.get(name) is None:
            with about(name):
                raise MaquetteError(f"{what[0].upper()}{what[1:]} needs the field {name!r}.")
    for name, value in values.items():
        if words := rules[name](value):
            with about(name):
                raise MaquetteError(f"{name} {shortened(words, 300)}.")
    return values


def pictures(
    values: Mapping[str, Any], names: Sequence[str], limits: Limits, resolve: Resolve | None
) -> dict[str, Picture | None]:
    """The pictures of a request or layer, of which the headers have been read."""
    found: dict[str, Picture | None] = {}
    for name in names:
        if values.get(name) is None:
            continue
        with about(name):
            words = {"image": "the start image", "mask": "the mask"}.get(name, "the picture")
            picture = Picture.read(values[name], limits.picture_bytes, resolve, words)
            picture.size(limits.picture_pixels)
            found[name] = picture
    return found


def anything(value: Any) -> str | None:
    """The rule of pictures, which are read by themselves."""
    return None
