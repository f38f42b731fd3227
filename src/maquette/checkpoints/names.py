"""Bases and ControlNets by name, and where they lie: bundled, here, or on the Hub. Torch is not imported for it."""

from pathlib import Path
from typing import Literal, get_args

from maquette.errors import MaquetteError
from maquette.foundation.bundle import bundled_weights, require_bundled_weights
from maquette.foundation.hub import is_hub_id
from maquette.foundation.registry import unknown
from maquette.foundation.weight_files import find_weights, weights_kind

BUNDLED = ("diorama",)

Format = Literal["diffusers", "original", "difference"]


def bundled() -> dict[str, Path]:
    """The ControlNets that come with the package, "diorama/canny" and so on, and where they lie."""
    root = bundled_weights()
    found = sorted(root.glob("controlnets/*/config.json")) if root else []
    return {f"diorama/{path.parent.name}": path.parent for path in found}


def local_base(name: str) -> Path | None:
    """The file or folder of a base, bundled or here; None for one that only the Hub may have.

    Raises `MaquetteError` for a name that is neither.
    """
    if name in BUNDLED:
        return require_bundled_weights() / "base"
    path = Path(name)
    if path.is_file() or (path / "model_index.json").is_file():
        return path
    if not path.exists() and is_hub_id(name):
        return None
    hint = "is a folder without a model_index.json" if path.exists() else "does not exist"
    raise MaquetteError(
        f"There is no base {name!r}: it is not bundled ({', '.join(BUNDLED)}) and the path {hint}; give 'diorama', "
        "a folder in diffusers' format, a file in the original layout, or org/name on the Hub."
    )


def local_controlnet(name: str) -> Path | None:
    """The file or folder of a ControlNet, bundled or here; None for one that only the Hub may have.

    Raises `MaquetteError` for a name that is neither.
    """
    path = bundled().get(name, Path(name))
    if path.exists():
        return path
    if name.startswith("diorama/"):
        require_bundled_weights()
    elif is_hub_id(name):
        return None
    raise MaquetteError(unknown("ControlNet", name, list(bundled())) + " Or give a folder or file of one.")


def check_weights(name: str) -> None:
    """`MaquetteError` for what is neither a ControlNet nor a base, as far as names and first bytes tell."""
    try:
        path = local_controlnet(name)
    except MaquetteError:
        path = Path(name)  # a base's
    file = path and (find_weights(path) if path.is_dir() else path)
    if file and file.is_file():
        weights_kind(file)
    elif path:
        local_base(name)


def check_conversion(source: Path, to: str, base: str | Path | None) -> None:
    """`MaquetteError` for a source that is no file of weights, an unknown format, or a base that is lacking."""
    if to not in get_args(Format):
        raise MaquetteError(unknown("format to convert to", to, list(get_args(Format))))
    if base is not None:
        local_base(str(base))
    if not source.is_dir():
        weights_kind(source)
    if to == "difference" and base is None:
        raise MaquetteError("A difference is told relative to a base; give the base.")
