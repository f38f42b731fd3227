"""ControlNets by name."""

from pathlib import Path

from maquette.base import Base
from maquette.checkpoints.names import local_controlnet
from maquette.controlnet import files as folders
from maquette.controlnet.network import ControlNet
from maquette.errors import MaquetteError
from maquette.foundation.hub import snapshot
from maquette.foundation.weights import find_weights


def find_controlnet(name: str | Path, token: str | None = None) -> Path:
    """The folder or file of a ControlNet: bundled, here, or fetched from the Hub (org/name, org/name@revision)."""
    return local_controlnet(str(name)) or _fetched(str(name), token)


def _fetched(name: str, token: str | None) -> Path:
    """One precision of it, full where there is a choice, safetensors before what is pickled."""
    for wanted, unwanted in ((".safetensors*", ("*.fp16.*",)), (".fp16.safetensors*", ()), ("*.bin*", ("*.fp16.*",))):
        folder = snapshot(name, (folders.CONFIG, f"diffusion_pytorch_model{wanted}"), unwanted, token)
        if find_weights(folder):
            return folder
    raise MaquetteError(f"{name!r} on the Hub holds no ControlNet in diffusers' format; give a file of it.")


def load_controlnet(name: str | Path, base: Base, *, token: str | None = None) -> ControlNet:
    """Load a ControlNet for a base.

    A file's format is found from what stands in it: original (v1.0, v1.1), bare, difference or Control-LoRA. It takes
    the base's dtype and device.

    Args:
        name: bundled, such as "diorama/canny"; a folder in diffusers' format; a file; or on the Hub, as
            org/name[@revision].
        token: for what is not public on the Hub.

    Raises `MaquetteError` for an unknown name, a broken file, or weights of another base.
    """
    return folders.load(find_controlnet(name, token), base.backbone).eval().requires_grad_(False)
