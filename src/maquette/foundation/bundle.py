"""Where the bundled models' weights are: in packages of their own, which are installed beside the code."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from maquette.errors import MaquetteError

PACKAGES = {"diorama": "maquette-diorama", "diorama-mmdit": "maquette-diorama-mmdit"}
"""The package of each bundled base, by the base's name."""

WORLD = "diorama"  # what all of them show


def bundled_weights(base: str = "diorama") -> Path | None:
    """The folder that holds a bundled model's base/ and controlnets/; None if its package is not installed.

    The diorama's also holds perception.safetensors.
    """
    module = PACKAGES[base].replace("-", "_")
    return None if find_spec(module) is None else Path(import_module(module).WEIGHTS)


def require_bundled_weights(base: str = "diorama") -> Path:
    """The same folder.

    Raises `MaquetteError` without the package, with the command that installs it.
    """
    folder = bundled_weights(base)
    if folder is None:
        raise MaquetteError(
            f"The bundled model {base!r} is in a package of its own, which is not installed: pip install "
            f"{PACKAGES[base]}."
        )
    return folder


def bundled_base(name: str) -> str | None:
    """The bundled base that a name such as "diorama/canny" belongs to; None for others."""
    base = name.partition("/")[0]
    return base if base in PACKAGES and base != name else None


def world_of(base: str) -> str:
    """The name of the world that a base shows, whose detectors it has; any other base is a world of its own."""
    return WORLD if base in PACKAGES else base
