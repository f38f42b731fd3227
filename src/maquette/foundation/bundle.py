"""Where the bundled model's weights are: in the package maquette-diorama, which is installed beside the code."""

from importlib.util import find_spec
from pathlib import Path

from maquette.errors import MaquetteError


def bundled_weights() -> Path | None:
    """The folder that holds base/, controlnets/ and perception.safetensors; None without maquette-diorama."""
    if find_spec("maquette_diorama") is None:
        return None
    from maquette_diorama import WEIGHTS

    return Path(WEIGHTS)


def require_bundled_weights() -> Path:
    """The same folder.

    Raises `MaquetteError` without maquette-diorama, with the command that installs it.
    """
    folder = bundled_weights()
    if folder is None:
        raise MaquetteError(
            "The bundled model 'diorama' is in a package of its own, which is not installed: pip install "
            "maquette-diorama."
        )
    return folder
