"""Finding bases and ControlNets by name: bundled, local, or on the Hub. Does not import torch."""

from pathlib import Path
from typing import Literal, get_args

from maquette.errors import MaquetteError
from maquette.foundation.bundle import PACKAGES, bundled_base, bundled_weights, require_bundled_weights
from maquette.foundation.hub import is_hub_id
from maquette.foundation.registry import unknown
from maquette.foundation.weight_files import find_weights, weights_kind

TargetFormat = Literal["diffusers", "original", "difference"]


def bundled() -> dict[str, Path]:
    """The ControlNets that come with the packages of weights, such as "diorama/canny", and their folders."""
    roots = {base: root for base in PACKAGES if (root := bundled_weights(base))}
    return {
        f"{base}/{path.parent.name}": path.parent
        for base, root in roots.items()
        for path in sorted(root.glob("controlnets/*/config.json"))
    }


def local_base(name: str) -> Path | None:
    """The file or folder of a bundled or local base; None for one that only the Hub may have.

    Raises `MaquetteError` for any other name.
    """
    if name in PACKAGES:
        return require_bundled_weights(name) / "base"
    path = Path(name)
    if path.is_file() or (path / "model_index.json").is_file():
        return path
    if not path.exists() and is_hub_id(name):
        if base := bundled_base(name):
            require_bundled_weights(base)
        return None
    hint = "is a folder without a model_index.json" if path.exists() else "does not exist"
    raise MaquetteError(
        f"There is no base {name!r}: it is not bundled ({', '.join(PACKAGES)}) and the path {hint}; give 'diorama', "
        "a folder in diffusers' format, a file in the original layout, or org/name on the Hub."
    )


def local_controlnet(name: str) -> Path | None:
    """The file or folder of a bundled or local ControlNet; None for one that only the Hub may have.

    Raises `MaquetteError` for any other name.
    """
    path = bundled().get(name, Path(name))
    if path.exists():
        return path
    if base := bundled_base(name):
        require_bundled_weights(base)
    elif is_hub_id(name):
        return None
    raise MaquetteError(unknown("ControlNet", name, list(bundled())) + " Or give a folder or file that holds one.")


def check_weights(name: str) -> None:
    """Raises `MaquetteError` for what is neither a ControlNet nor a base, judging by names and first bytes."""
    try:
        path = local_controlnet(name)
    except MaquetteError:
        path = Path(name)  # perhaps a base
    file = path and (find_weights(path) if path.is_dir() else path)
    if file and file.is_file():
        weights_kind(file)
    elif path:
        local_base(name)


def check_conversion(source: str, to: str, base: str | Path | None) -> None:
    """Raises `MaquetteError` for a source that is no ControlNet's name or file, an unknown format, or a missing base.

    Judging by names and first bytes.
    """
    if to not in get_args(TargetFormat):
        raise MaquetteError(unknown("format to convert to", to, list(get_args(TargetFormat))))
    if base is not None:
        local_base(str(base))
    path = local_controlnet(source)
    if path and path.is_file():
        weights_kind(path)
    if to == "difference" and base is None:
        raise MaquetteError("A difference is relative to a base; give the base.")
