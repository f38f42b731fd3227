"""ControlNets by name."""

from importlib.resources import files
from pathlib import Path

from maquette.base import Base
from maquette.controlnet import files as folders
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.foundation.registry import unknown


def bundled() -> dict[str, Path]:
    """The ControlNets that come with the package, "diorama/canny" and so on, and where they lie."""
    root = Path(str(files("maquette"))) / "weights"
    found = sorted(path.parent for path in root.glob(f"*/controlnets/*/{folders.CONFIG}"))
    return {f"{folder.parent.parent.name}/{folder.name}": folder for folder in found}


def load_controlnet(name: str | Path, base: Base) -> ControlNet:
    """Load a ControlNet for a base: a bundled name such as "diorama/canny", a folder in diffusers' format, or a file.

    A file's format is found from what stands in it: original (v1.0, v1.1), bare, difference or Control-LoRA. It takes
    the base's dtype and device. Raises `MaquetteError` for an unknown name, a broken file, or weights of another base.
    """
    path = bundled().get(str(name), Path(name))
    if not path.exists():
        raise MaquetteError(unknown("ControlNet", str(name), list(bundled())) + " Or give a folder or file of one.")
    return folders.load(path, base.backbone).eval().requires_grad_(False)
